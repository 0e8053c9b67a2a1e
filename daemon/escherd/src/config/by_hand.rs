//! Settings that a program has put together or changed by itself: they have come past no file's checks.

use std::path::Path;

use super::error::{ConfigError, Fault};
use super::settings::{EngineConfig, ExecutionSettings};
use crate::execution::MAX_KILL_GRACE_MS;

impl EngineConfig {
    /// Whether an engine can work by this.
    ///
    /// # Errors
    /// Every value that makes no sense, by the name that it has in a file.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut faults = self.executions.faults();
        for (name, path) in [
            ("daemon.runtime_dir", &self.runtime_dir),
            ("daemon.state_dir", &self.state_dir),
            ("execution.log_dir", &self.log_dir),
        ] {
            demand(
                &mut faults,
                path.is_absolute(),
                name,
                path_shown(path),
                "an absolute path",
            );
        }
        judge(faults)
    }
}

impl ExecutionSettings {
    /// Whether an engine can work by these.
    ///
    /// # Errors
    /// Every value that makes no sense, by the name that it has in a file.
    pub fn check(&self) -> Result<(), ConfigError> {
        judge(self.faults())
    }

    fn faults(&self) -> Vec<Fault> {
        let (request, output) = (&self.request, &self.output);
        let (default, max) = (request.default_timeout_ms, request.max_timeout_ms);
        let mut faults = Vec::new();
        let mut demand = |holds, name: &str, value: u64, right: &str| {
            demand(&mut faults, holds, name, value.to_string(), right);
        };
        demand(
            max == 0 || (1..=max).contains(&default),
            "execution.default_timeout_ms",
            default,
            &format!("from 1 to execution.max_timeout_ms, which is {max}"),
        );
        demand(
            request.kill_grace_ms <= MAX_KILL_GRACE_MS,
            "execution.kill_grace_ms",
            request.kill_grace_ms,
            &format!("at most {MAX_KILL_GRACE_MS}"),
        );
        demand(
            self.max_concurrent_executions > 0,
            "execution.max_concurrent_executions",
            self.max_concurrent_executions as u64,
            "at least 1",
        );
        demand(
            output.max_bytes > 0,
            "execution.max_output_size_bytes",
            output.max_bytes,
            "at least 1",
        );
        demand(
            output.keep_tail_bytes == 0 || output.keep_tail_bytes < output.max_bytes,
            "execution.keep_tail_bytes",
            output.keep_tail_bytes,
            "less than execution.max_output_size_bytes",
        );
        let interval = self.cleanup.interval.as_secs();
        demand(
            interval > 0,
            "execution.cleanup_interval_secs",
            interval,
            "at least 1",
        );
        faults
    }
}

fn demand(faults: &mut Vec<Fault>, holds: bool, name: &str, value: String, right: &str) {
    if !holds {
        faults.push(Fault::new(
            format!("{name} = {value}"),
            format!("must be {right}"),
        ));
    }
}

fn path_shown(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn judge(faults: Vec<Fault>) -> Result<(), ConfigError> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::new(faults))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_a_program_has_set_is_held_to_what_a_file_is_held_to() {
        assert!(EngineConfig::default().check().is_ok());
        let mut config = EngineConfig {
            state_dir: "here".into(),
            ..EngineConfig::default()
        };
        let executions = &mut config.executions;
        executions.request.default_timeout_ms = 9;
        executions.request.max_timeout_ms = 5;
        executions.request.kill_grace_ms = u64::MAX;
        executions.max_concurrent_executions = 0;
        executions.output.max_bytes = 0;
        executions.output.keep_tail_bytes = 1;
        executions.cleanup.interval = Duration::ZERO;
        let faults = config.check().unwrap_err();
        assert_eq!(faults.faults().len(), 7, "{faults}");
        let faults = faults.to_string();
        for part in [
            "execution.default_timeout_ms = 9: must be from 1 to execution.max_timeout_ms, which is 5",
            "execution.max_concurrent_executions = 0: must be at least 1",
            "daemon.state_dir = \"here\": must be an absolute path",
        ] {
            assert!(faults.contains(part), "{faults}");
        }
    }
}
