//! Validates settings against each other and against this host. The same rules apply to loaded
//! settings and to those that a program has built. Loaded settings have origins, so that a problem
//! names the file and line. Settings that a program has built have not passed the type checks of
//! [`super::value_type`], so ranges and paths are checked here, too.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use escher_launcher::ipc::wire::WhenLogFull;
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{AccessFlags, eaccess};

use super::error::{ConfigError, ConfigProblem};
use super::layers::{AssignedValue, Layers};
use super::schema::{self, SETTINGS};
use super::settings::{DaemonSettings, EngineSettings, ReloadableSettings};
use super::value_type::{TypedValue, ValueType};

/// Validates loaded settings. A rule that reads an unreliable value is skipped: what it would
/// report follows from another problem.
pub(super) fn settings(settings: &DaemonSettings, layers: &Layers) -> Vec<ConfigProblem> {
    let origins = Origins(Some(layers));
    let mut problems: Vec<_> = separate_sockets(settings, origins).into_iter().collect();
    problems.extend(engine_problems(&settings.engine, origins));
    problems.extend(memory(layers));
    problems
}

impl EngineSettings {
    /// Validates settings that a program has built.
    ///
    /// # Errors
    /// All problems, each with the name that the setting has in a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless_empty(engine_problems(self, Origins(None)))
    }
}

impl ReloadableSettings {
    /// Validates settings that a program has built.
    ///
    /// # Errors
    /// All problems, each with the name that the setting has in a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless_empty(reloadable_problems(self, Origins(None)))
    }
}

fn engine_problems(settings: &EngineSettings, origins: Origins<'_>) -> Vec<ConfigProblem> {
    let mut problems = reloadable_problems(&settings.reloadable, origins);
    problems.extend(absolute_paths(settings, origins));
    problems.extend(writable_log_dir(settings, origins));
    problems
}

fn reloadable_problems(settings: &ReloadableSettings, origins: Origins<'_>) -> Vec<ConfigProblem> {
    let mut problems = ranges(settings, origins);
    problems.extend(timeouts(settings, origins));
    problems.extend(tail(settings, origins));
    problems.extend(forgotten_logs(settings, origins));
    problems
}

/// The layers that the values come from; `None` for settings that a program has built.
#[derive(Debug, Clone, Copy)]
struct Origins<'l>(Option<&'l Layers>);

impl<'l> Origins<'l> {
    fn get(self, name: &str) -> Option<&'l AssignedValue> {
        self.0?.get(name)
    }

    fn are_reliable(self, names: &[&str]) -> bool {
        let is_reliable = |name: &&str| self.0.is_none_or(|layers| layers.is_reliable(name));
        names.iter().all(is_reliable)
    }

    /// Whether a person is known to have set the value.
    fn is_explicit(self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|assigned| assigned.origin.is_explicit())
    }

    /// Returns the problem of a setting that has `value`.
    fn problem(self, name: &str, value: impl Display, expected: &str) -> ConfigProblem {
        let subject = match self.get(name) {
            Some(assigned) => assigned.assignment.clone(),
            None => format!("{name} = {value}"),
        };
        ConfigProblem::new(subject, format!("must be {expected}"))
    }

    /// Returns `value` with the origin that it has in the setting `name`.
    fn with_origin(self, name: &str, value: u64) -> String {
        match self.get(name) {
            Some(assigned) => format!("{value} ({})", assigned.origin),
            None => value.to_string(),
        }
    }
}

fn separate_sockets(settings: &DaemonSettings, origins: Origins<'_>) -> Option<ConfigProblem> {
    const CLIENTS: &str = "daemon.socket";
    const METRICS: &str = "daemon.metrics_socket";
    let metrics = settings.metrics_socket.as_ref()?;
    if !origins.are_reliable(&[CLIENTS, METRICS]) || *metrics != settings.socket.path {
        return None;
    }
    let expected = format!("different from {CLIENTS}, where clients connect");
    Some(origins.problem(METRICS, metrics.display(), &expected))
}

/// Checks the numbers and durations whose ranges are limited.
fn ranges(settings: &ReloadableSettings, origins: Origins<'_>) -> Vec<ConfigProblem> {
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
        (
            "execution.max_launch_attempts",
            settings.max_launch_attempts.into(),
        ),
        (
            "users.max_tasks",
            settings.user_limits.tasks_max.unwrap_or_default(),
        ),
    ];
    let request = &settings.request;
    let durations = [
        ("execution.max_kill_grace", request.max_kill_grace_ms),
        ("execution.drain", request.drain_ms),
        ("execution.max_drain", request.max_drain_ms),
    ];
    let mut problems = Vec::new();
    for (name, number) in numbers {
        if let Some(definition) = schema::by_name(name)
            && let ValueType::Number { range, .. } = &definition.value_type
            && !range.contains(&number)
        {
            problems.push(origins.problem(name, number, &definition.value_type.expected()));
        }
    }
    for (name, ms) in durations {
        if let Some(definition) = schema::by_name(name)
            && let ValueType::Duration { max, .. } = &definition.value_type
            && Duration::from_millis(ms) > *max
        {
            let expected = definition.value_type.expected();
            problems.push(origins.problem(name, format_args!("{ms}ms"), &expected));
        }
    }
    problems
}

/// Checks the default timeout against the maximum. The problem names the one that a person has set,
/// and the default timeout if that is both or neither.
fn timeouts(settings: &ReloadableSettings, origins: Origins<'_>) -> Option<ConfigProblem> {
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

fn tail(settings: &ReloadableSettings, origins: Origins<'_>) -> Option<ConfigProblem> {
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

/// Least limit of a log whose oldest output is forgotten: a file system frees whole blocks, of 4 KiB as
/// a rule, and the limit consists of eight steps.
const MIN_FORGETTING_LOG_BYTES: u64 = 64 * 1024;

/// Checks that a log whose oldest output is forgotten has a limit. The problem names the one that a
/// person has set, and the limit if that is both or neither.
fn forgotten_logs(settings: &ReloadableSettings, origins: Origins<'_>) -> Option<ConfigProblem> {
    const LIMIT: &str = "execution.max_log_bytes";
    const WHEN_FULL: &str = "execution.log_full";
    let limits = settings.log_limits;
    if limits.when_full != WhenLogFull::ForgetOldest
        || limits.max_bytes >= MIN_FORGETTING_LOG_BYTES
        || !origins.are_reliable(&[LIMIT, WHEN_FULL])
    {
        return None;
    }
    if origins.is_explicit(WHEN_FULL) && !origins.is_explicit(LIMIT) {
        let limit = origins.with_origin(LIMIT, limits.max_bytes);
        let expected = format!(
            "drain or kill, or {LIMIT}, which is {limit}, at least {MIN_FORGETTING_LOG_BYTES}"
        );
        return Some(origins.problem(WHEN_FULL, "\"forget_oldest\"", &expected));
    }
    let expected = format!(
        "at least {MIN_FORGETTING_LOG_BYTES} where {WHEN_FULL} is \"forget_oldest\": that needs a limit"
    );
    Some(origins.problem(LIMIT, limits.max_bytes, &expected))
}

fn absolute_paths(settings: &EngineSettings, origins: Origins<'_>) -> Vec<ConfigProblem> {
    let paths = [
        ("daemon.runtime_dir", &settings.runtime_dir),
        ("daemon.state_dir", &settings.state_dir),
        ("execution.log_dir", &settings.log_dir),
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

/// Checks that a log directory that a person has set is writable.
fn writable_log_dir(settings: &EngineSettings, origins: Origins<'_>) -> Option<ConfigProblem> {
    const LOG_DIR: &str = "execution.log_dir";
    // A launcher that is a service writes logs as its own user.
    if !origins.is_explicit(LOG_DIR) || settings.launcher_socket.is_some() {
        return None;
    }
    let path = &settings.log_dir;
    // Missing directories will be created, so the nearest existing one has to be writable.
    let nearest = path
        .ancestors()
        .find(|ancestor| ancestor.symlink_metadata().is_ok())?;
    let obstacle = match eaccess(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        _ if !nearest.is_dir() => "is not a directory".to_owned(),
        // Root has the permission there, and still cannot create a file.
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

/// Checks that numbers that a person has set fit into this host's memory.
fn memory(layers: &Layers) -> Vec<ConfigProblem> {
    let total = sysinfo().map_or(u64::MAX, |info| info.ram_total());
    let mut problems = Vec::new();
    for definition in SETTINGS {
        if let ValueType::Number { memory_each, .. } = definition.value_type
            && let Some(most) = total.checked_div(memory_each)
            && let Some(assigned) = layers.get(definition.name)
            && assigned.origin.is_explicit()
            && let TypedValue::Number(number) = assigned.value
            && number > most
        {
            let explanation = format!("must be at most {most} to fit into this host's memory");
            problems.push(ConfigProblem::new(&assigned.assignment, explanation));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::MAX_KILL_GRACE_MS;
    use escher_protocol::ResourceLimits;

    #[test]
    fn settings_built_by_a_program_obey_the_rules_for_files() {
        assert!(EngineSettings::default().validate().is_ok());
        let mut settings = EngineSettings {
            state_dir: "here".into(),
            ..EngineSettings::default()
        };
        let reloadable = &mut settings.reloadable;
        reloadable.request.default_timeout_ms = 9;
        reloadable.request.max_timeout_ms = 5;
        reloadable.request.kill_grace_ms = u64::MAX;
        reloadable.request.max_kill_grace_ms = MAX_KILL_GRACE_MS + 1;
        reloadable.request.drain_ms = MAX_KILL_GRACE_MS + 1;
        reloadable.request.max_drain_ms = u64::MAX;
        reloadable.max_concurrent_executions = 0;
        reloadable.user_limits.tasks_max = Some(ResourceLimits::MOST_TASKS + 1);
        reloadable.output.max_bytes = 0;
        reloadable.output.keep_tail_bytes = 1;
        reloadable.cleanup.interval = Duration::ZERO;
        let error = settings.validate().unwrap_err();
        assert_eq!(error.problems().len(), 11, "{error}");
        let shown = error.to_string();
        for part in [
            "execution.default_timeout_ms = 9: must be from 1 to execution.max_timeout_ms, which is 5;",
            "execution.max_concurrent_executions = 0: must be a whole number, at least 1",
            "execution.drain = 86400001ms: must be a time with a unit (ms, s, m, h or d), such as 90s or 1h30m, at most 24h",
            "execution.keep_tail_bytes = 1: must be less than execution.max_output_size_bytes, which is 0",
            "daemon.state_dir = \"here\": must be an absolute path",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        let error = settings.reloadable.validate().unwrap_err();
        assert_eq!(error.problems().len(), 10, "{error}");
    }
}
