//! Validates settings: against each other, and against this host. One list of rules serves settings
//! that were loaded and settings that a program has built. The former have origins, so that a
//! problem names the file and line; the latter have not passed the type checks of
//! [`super::value_type`], so ranges and paths are rules here, too.

use std::fmt::Display;
use std::path::Path;

use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{AccessFlags, eaccess};

use super::error::{ConfigError, ConfigProblem};
use super::layers::{Layers, Setting};
use super::schema::{self, KEYS};
use super::settings::{EngineConfig, ExecutionSettings, Settings};
use super::value_type::{TypedValue, ValueType};

/// Validates settings that were loaded. A rule that reads an unreliable value is skipped: what it
/// would report follows from another problem.
pub(super) fn settings(settings: &Settings, layers: &Layers) -> Vec<ConfigProblem> {
    let origins = Origins(Some(layers));
    let mut problems: Vec<_> = separate_sockets(settings, origins).into_iter().collect();
    problems.extend(engine_problems(&settings.engine, origins));
    problems.extend(memory(layers));
    problems
}

impl EngineConfig {
    /// Validates settings that a program has built.
    ///
    /// # Errors
    /// All problems, each with the name that the setting has in a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless_empty(engine_problems(self, Origins(None)))
    }
}

impl ExecutionSettings {
    /// Validates settings that a program has built.
    ///
    /// # Errors
    /// All problems, each with the name that the setting has in a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless_empty(execution_problems(self, Origins(None)))
    }
}

fn engine_problems(config: &EngineConfig, origins: Origins<'_>) -> Vec<ConfigProblem> {
    let mut problems = execution_problems(&config.executions, origins);
    problems.extend(absolute_paths(config, origins));
    problems.extend(writable_log_dir(config, origins));
    problems
}

fn execution_problems(settings: &ExecutionSettings, origins: Origins<'_>) -> Vec<ConfigProblem> {
    let mut problems = ranges(settings, origins);
    problems.extend(timeouts(settings, origins));
    problems.extend(tail(settings, origins));
    problems
}

/// The layers that values come from, if they were loaded.
#[derive(Debug, Clone, Copy)]
struct Origins<'l>(Option<&'l Layers>);

impl<'l> Origins<'l> {
    fn get(self, name: &str) -> Option<&'l Setting> {
        self.0?.get(name)
    }

    fn are_reliable(self, names: &[&str]) -> bool {
        let is_reliable = |name: &&str| self.0.is_none_or(|layers| layers.is_reliable(name));
        names.iter().all(is_reliable)
    }

    /// Whether somebody is known to have set this very value.
    fn is_explicit(self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|setting| setting.origin.is_explicit())
    }

    /// Returns the problem of a setting that has `value`.
    fn problem(self, name: &str, value: impl Display, expected: &str) -> ConfigProblem {
        let subject = match self.get(name) {
            Some(setting) => setting.assignment.clone(),
            None => format!("{name} = {value}"),
        };
        ConfigProblem::new(subject, format!("must be {expected}"))
    }

    /// Returns `value` with the origin that it has in the setting `name`.
    fn with_origin(self, name: &str, value: u64) -> String {
        match self.get(name) {
            Some(setting) => format!("{value} ({})", setting.origin),
            None => value.to_string(),
        }
    }
}

fn separate_sockets(settings: &Settings, origins: Origins<'_>) -> Option<ConfigProblem> {
    const CLIENTS: &str = "daemon.socket";
    const METRICS: &str = "daemon.metrics_socket";
    let metrics = settings.metrics_socket.as_ref()?;
    if !origins.are_reliable(&[CLIENTS, METRICS]) || *metrics != settings.socket.path {
        return None;
    }
    let expected = format!("different from {CLIENTS}, where clients connect");
    Some(origins.problem(METRICS, metrics.display(), &expected))
}

/// Checks the numbers whose ranges are limited.
fn ranges(settings: &ExecutionSettings, origins: Origins<'_>) -> Vec<ConfigProblem> {
    let numbers = [
        ("execution.kill_grace_ms", settings.request.kill_grace_ms),
        (
            "execution.max_concurrent_executions",
            settings.max_concurrent_executions as u64,
        ),
        ("execution.max_output_size_bytes", settings.output.max_bytes),
        (
            "execution.cleanup_interval_secs",
            settings.cleanup.interval.as_secs(),
        ),
    ];
    let mut problems = Vec::new();
    for (name, number) in numbers {
        if let Some(key) = schema::by_name(name)
            && let ValueType::Number { range, .. } = &key.value_type
            && !range.contains(&number)
        {
            problems.push(origins.problem(name, number, &key.value_type.expected()));
        }
    }
    problems
}

/// Blames the timeout that somebody has set.
fn timeouts(settings: &ExecutionSettings, origins: Origins<'_>) -> Option<ConfigProblem> {
    const DEFAULT: &str = "execution.default_timeout_ms";
    const MAX: &str = "execution.max_timeout_ms";
    let default = settings.request.default_timeout_ms;
    let max = settings.request.max_timeout_ms;
    let is_right = max == 0 || (1..=max).contains(&default);
    if is_right || !origins.are_reliable(&[DEFAULT, MAX]) {
        return None;
    }
    if origins.is_explicit(MAX) && !origins.is_explicit(DEFAULT) {
        let default = origins.with_origin(DEFAULT, default);
        let expected = format!("at least {DEFAULT}, which is {default}, or 0 for no maximum");
        return Some(origins.problem(MAX, max, &expected));
    }
    let max = origins.with_origin(MAX, max);
    let expected = format!("from 1 to {MAX}, which is {max}; any value is valid if that is 0");
    Some(origins.problem(DEFAULT, default, &expected))
}

fn tail(settings: &ExecutionSettings, origins: Origins<'_>) -> Option<ConfigProblem> {
    const TAIL: &str = "execution.keep_tail_bytes";
    const LIMIT: &str = "execution.max_output_size_bytes";
    let (tail, limit) = (settings.output.keep_tail_bytes, settings.output.max_bytes);
    if tail == 0 || tail < limit || !origins.are_reliable(&[TAIL, LIMIT]) {
        return None;
    }
    let limit = origins.with_origin(LIMIT, limit);
    let expected = format!("less than {LIMIT}, which is {limit}");
    Some(origins.problem(TAIL, tail, &expected))
}

fn absolute_paths(config: &EngineConfig, origins: Origins<'_>) -> Vec<ConfigProblem> {
    let paths = [
        ("daemon.runtime_dir", &config.runtime_dir),
        ("daemon.state_dir", &config.state_dir),
        ("execution.log_dir", &config.log_dir),
    ];
    let relative = paths
        .into_iter()
        .filter(|(name, path)| !path.is_absolute() && origins.are_reliable(&[name]));
    relative
        .map(|(name, path)| {
            let path = format!("{:?}", path.display().to_string());
            origins.problem(name, path, "an absolute path")
        })
        .collect()
}

/// Checks that logs can be written to a directory that somebody has set.
fn writable_log_dir(config: &EngineConfig, origins: Origins<'_>) -> Option<ConfigProblem> {
    const LOG_DIR: &str = "execution.log_dir";
    // A launcher that is a service writes logs as its own user.
    if !origins.is_explicit(LOG_DIR) || config.launcher_socket.is_some() {
        return None;
    }
    let path = &config.log_dir;
    // Directories that do not exist will be made.
    let nearest = path
        .ancestors()
        .find(|ancestor| ancestor.symlink_metadata().is_ok())?;
    let obstacle = match eaccess(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        _ if !nearest.is_dir() => "is not a directory".to_owned(),
        // Root has the permission, and still cannot make a file.
        Ok(()) if is_kernel_interface(nearest) => "belongs to the kernel".to_owned(),
        Ok(()) => return None,
        Err(error) => format!("is not writable ({})", error.desc()),
    };
    let obstacle = if nearest == path {
        format!("it {obstacle}")
    } else {
        format!("{} {obstacle}", nearest.display())
    };
    let expected = format!("a directory that escherd can write to, but {obstacle}");
    Some(origins.problem(LOG_DIR, path.display(), &expected))
}

/// Whether a directory is in /proc or /sys.
fn is_kernel_interface(dir: &Path) -> bool {
    let filesystem = statfs(dir).map(|found| found.filesystem_type());
    filesystem.is_ok_and(|filesystem| [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&filesystem))
}

/// Checks that what somebody has set fits into this host's memory.
fn memory(layers: &Layers) -> Vec<ConfigProblem> {
    let total = sysinfo().map_or(u64::MAX, |info| info.ram_total());
    let mut problems = Vec::new();
    for key in KEYS {
        if let ValueType::Number { memory_each, .. } = key.value_type
            && let Some(most) = total.checked_div(memory_each)
            && let Some(setting) = layers.get(key.name)
            && setting.origin.is_explicit()
            && let TypedValue::Number(number) = setting.value
            && number > most
        {
            let explanation = format!("must be at most {most} to fit into this host's memory");
            problems.push(ConfigProblem::new(&setting.assignment, explanation));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn settings_built_by_a_program_obey_the_rules_for_files() {
        assert!(EngineConfig::default().validate().is_ok());
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
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().len(), 7, "{error}");
        let shown = error.to_string();
        for part in [
            "execution.default_timeout_ms = 9: must be from 1 to execution.max_timeout_ms, which is 5;",
            "execution.max_concurrent_executions = 0: must be a whole number, at least 1",
            "execution.keep_tail_bytes = 1: must be less than execution.max_output_size_bytes, which is 0",
            "daemon.state_dir = \"here\": must be an absolute path",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        let error = config.executions.validate().unwrap_err();
        assert_eq!(error.problems().len(), 6, "{error}");
    }
}
