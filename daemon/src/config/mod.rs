//! Settings: from files and flags to one value that was checked and does not change.
//!
//! Three stages: [`raw`] is what a file says, every key optional; [`Settings`] is what is in force; the
//! way between them is [`resolve`], which knows defaults and limits. Flags go over files.

mod raw;

pub use raw::{ConfigError, RawConfig, read_file};
use raw::{LogFull, RawExecution, RawHistory};

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;

use escher_launcher::wire::{LogLimits, WhenLogFull};

use crate::cleanup::CleanupSettings;
use crate::cli::{Arguments, OnStop};
use crate::engine::OnBoot;
use crate::execution::RequestLimits;
use crate::server::{ConnectionLimits, SocketSettings};
use crate::store::{Durability, HistoryLimits};

/// Where a system's escherd looks for `escher.toml`: the first that is there is read.
const SYSTEM_CONFIG_DIRS: [&str; 3] = ["/etc/escher", "/run/escher", "/usr/lib/escher"];

/// Where the launcher is installed.
const INSTALLED_LAUNCHER: &str = "/usr/lib/escher/escher-launcher";

/// Name of the launcher's program.
const LAUNCHER_NAME: &str = "escher-launcher";

/// Everything that can be set, decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The socket.
    pub socket: SocketSettings,
    /// What goes when the host does: the socket's directory by default.
    pub runtime_dir: PathBuf,
    /// What stays.
    pub state_dir: PathBuf,
    /// The logs of commands.
    pub log_dir: PathBuf,
    /// The launcher's program.
    pub launcher: PathBuf,
    /// Shims that are kept ready.
    pub warm_shims: usize,
    /// What becomes of running commands when escherd stops.
    pub on_stop: OnStop,
    /// Connections.
    pub connections: ConnectionLimits,
    /// What bears on a single request.
    pub request: RequestLimits,
    /// Most executions that run at once.
    pub max_concurrent_executions: usize,
    /// Most executions that wait for that.
    pub max_pending_executions: usize,
    /// Most bytes of the requests that wait.
    pub max_pending_bytes: u64,
    /// Bytes per stream that a result carries.
    pub max_output_size_bytes: u64,
    /// Most finished executions in memory.
    pub max_in_memory_executions: usize,
    /// What bounds each log.
    pub log_limits: LogLimits,
    /// What a commit to the store outlives.
    pub durability: Durability,
    /// What is kept of finished executions.
    pub cleanup: CleanupSettings,
    /// What becomes of executions that wait when the host is started anew.
    pub on_boot: OnBoot,
}

/// Reads the configuration file that applies, if there is one, and makes settings of it and the flags.
///
/// # Errors
/// What is wrong, with file, line and key.
pub fn load(arguments: &Arguments) -> Result<Settings, ConfigError> {
    let raw = match config_file(arguments) {
        Some(path) => read_file(&path)?,
        None => RawConfig::default(),
    };
    resolve(raw, arguments)
}

fn config_file(arguments: &Arguments) -> Option<PathBuf> {
    if arguments.config.is_some() {
        return arguments.config.clone();
    }
    if arguments.user {
        let path = user_dir("XDG_CONFIG_HOME", ".config")?.join("escher/escher.toml");
        return path.exists().then_some(path);
    }
    SYSTEM_CONFIG_DIRS
        .iter()
        .map(|dir| Path::new(dir).join("escher.toml"))
        .find(|path| path.exists())
}

/// The base directories of one kind of installation.
struct Places {
    runtime: PathBuf,
    state: PathBuf,
    logs: PathBuf,
}

/// `/run`, `/var/lib` and `/var/log`; with `--user` those of the XDG base directory specification.
fn places(arguments: &Arguments) -> Result<Places, ConfigError> {
    if !arguments.user {
        return Ok(Places {
            runtime: "/run/escher".into(),
            state: "/var/lib/escher".into(),
            logs: "/var/log/escher".into(),
        });
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime
        .or_else(|| arguments.runtime_dir.clone())
        .ok_or(ConfigError::NoDirectory("XDG_RUNTIME_DIR", "--runtime-dir"))?;
    let state = user_dir("XDG_STATE_HOME", ".local/state")
        .or_else(|| arguments.state_dir.clone())
        .ok_or(ConfigError::NoDirectory("XDG_STATE_HOME", "--state-dir"))?
        .join("escher");
    Ok(Places {
        runtime: runtime.join("escher"),
        logs: state.join("logs"),
        state,
    })
}

fn user_dir(variable: &str, under_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from);
    let set = set.filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(under_home));
    set.or_else(home)
}

/// Fills in defaults and checks what belongs together.
///
/// # Errors
/// [`ConfigError::Invalid`] with every fault at once.
pub fn resolve(raw: RawConfig, arguments: &Arguments) -> Result<Settings, ConfigError> {
    let places = places(arguments)?;
    let RawConfig {
        daemon,
        execution,
        store,
        history,
        origin,
    } = raw;
    let first = |flag: &Option<PathBuf>, set: Option<PathBuf>, otherwise: PathBuf| {
        flag.clone().or(set).unwrap_or(otherwise)
    };
    let runtime_dir = first(&arguments.runtime_dir, daemon.runtime_dir, places.runtime);
    let state_dir = first(&arguments.state_dir, daemon.state_dir, places.state);
    let log_dir = execution.log_dir.clone().or(daemon.log_dir);
    let log_dir = first(&arguments.log_dir, log_dir, places.logs);
    let socket = first(
        &arguments.socket,
        daemon.socket,
        runtime_dir.join("escherd.sock"),
    );
    let launcher = first(&arguments.launcher, daemon.launcher, default_launcher());

    let default_timeout_ms = execution.default_timeout_ms.unwrap_or(120_000);
    let max_timeout_ms = execution.max_timeout_ms.unwrap_or(600_000);
    let max_concurrent_executions = execution.max_concurrent_executions.unwrap_or(100);
    let socket_mode = daemon.socket_mode.unwrap_or_else(|| "0660".to_owned());
    let mode = u32::from_str_radix(&socket_mode, 8)
        .ok()
        .filter(|mode| *mode <= 0o777);

    let mut faults = Vec::new();
    let mut demand = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    demand(
        max_timeout_ms == 0 || (1..=max_timeout_ms).contains(&default_timeout_ms),
        format!(
            "execution.default_timeout_ms = {default_timeout_ms}: must be from 1 to execution.max_timeout_ms = {max_timeout_ms} (0 there allows any)"
        ),
    );
    demand(
        max_concurrent_executions > 0,
        "execution.max_concurrent_executions = 0: must be at least 1, else nothing ever runs"
            .to_owned(),
    );
    demand(
        execution.cleanup_interval_secs != Some(0),
        "execution.cleanup_interval_secs = 0: must be at least 1; enable_auto_cleanup = false turns it off"
            .to_owned(),
    );
    demand(
        mode.is_some(),
        format!(
            "daemon.socket_mode = {socket_mode:?}: must be an octal number in quotes, such as \"0660\""
        ),
    );
    for (key, path) in [
        ("runtime_dir", &runtime_dir),
        ("state_dir", &state_dir),
        ("log_dir", &log_dir),
        ("socket", &socket),
    ] {
        demand(
            path.is_absolute(),
            format!(
                "daemon.{key} = {:?}: must be an absolute path",
                path.display().to_string()
            ),
        );
    }
    if !faults.is_empty() {
        return Err(ConfigError::Invalid { origin, faults });
    }
    Ok(Settings {
        socket: SocketSettings {
            path: socket,
            mode: mode.unwrap_or(0o600),
            group: group(daemon.socket_group, arguments),
        },
        runtime_dir,
        state_dir,
        log_dir,
        launcher,
        warm_shims: daemon.warm_shims.unwrap_or(4),
        on_stop: arguments.on_stop,
        connections: ConnectionLimits {
            max_connections: daemon.max_connections.unwrap_or(4096),
            max_connections_per_user: daemon.max_connections_per_user.unwrap_or(1024),
        },
        request: RequestLimits {
            default_timeout_ms,
            max_timeout_ms,
            kill_grace_ms: execution.kill_grace_ms.unwrap_or(10_000),
        },
        max_concurrent_executions,
        max_pending_executions: execution.max_pending_executions.unwrap_or(10_000),
        max_pending_bytes: execution.max_pending_bytes.unwrap_or(256 * 1024 * 1024),
        max_output_size_bytes: execution.max_output_size_bytes.unwrap_or(10 * 1024 * 1024),
        max_in_memory_executions: execution.max_in_memory_executions.unwrap_or(1000),
        log_limits: log_limits(&execution),
        durability: store.durability.unwrap_or_default(),
        cleanup: cleanup(&execution, &history),
        on_boot: daemon.on_boot.unwrap_or_default(),
    })
}

fn log_limits(execution: &RawExecution) -> LogLimits {
    LogLimits {
        max_bytes: execution.max_log_bytes.unwrap_or(0),
        min_free_bytes: execution.log_min_free_bytes.unwrap_or(64 * 1024 * 1024),
        when_full: match execution.log_full {
            None | Some(LogFull::Drain) => WhenLogFull::Drain,
            Some(LogFull::Kill) => WhenLogFull::Kill,
        },
    }
}

fn cleanup(execution: &RawExecution, history: &RawHistory) -> CleanupSettings {
    const DAY_SECS: u64 = 24 * 60 * 60;
    let seconds = |set: Option<u64>, otherwise| Duration::from_secs(set.unwrap_or(otherwise));
    CleanupSettings {
        is_automatic: execution.enable_auto_cleanup.unwrap_or(true),
        interval: seconds(execution.cleanup_interval_secs, 300),
        retention: seconds(execution.execution_retention_secs, 3600),
        limits: HistoryLimits {
            max_age_secs: history.max_age_secs.unwrap_or(7 * DAY_SECS),
            max_bytes: history.max_bytes.unwrap_or(1024 * 1024 * 1024),
            max_count: history.max_count.unwrap_or(1_000_000),
        },
    }
}

/// The group `escher` where a system's escherd can give the socket to it; a user's own needs none.
fn group(set: Option<String>, arguments: &Arguments) -> Option<String> {
    match set {
        Some(group) => Some(group),
        None if arguments.user || !geteuid().is_root() => None,
        None => Some("escher".to_owned()),
    }
}

/// Beside this program, else where it is installed.
fn default_launcher() -> PathBuf {
    let program = std::env::current_exe().ok();
    program
        .map(|program| program.with_file_name(LAUNCHER_NAME))
        .filter(|beside| beside.exists())
        .unwrap_or_else(|| INSTALLED_LAUNCHER.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("escher.toml");
        std::fs::write(&path, text).unwrap();
        let arguments = Arguments::parse_from(["escherd", "--config", path.to_str().unwrap()]);
        load(&arguments)
    }

    fn fault(text: &str) -> String {
        settings(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let settings = settings("").unwrap();
        assert_eq!(settings.socket.path, Path::new("/run/escher/escherd.sock"));
        assert_eq!(settings.socket.mode, 0o660);
        assert_eq!(settings.request.default_timeout_ms, 120_000);
        assert_eq!(settings.max_output_size_bytes, 10 * 1024 * 1024);
    }

    #[test]
    fn the_page_shows_the_defaults() {
        let page = include_str!("../../../docs/configuration.md");
        let example = page.split("```toml").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let shown = format!("{:?}", settings(example).unwrap());
        // Who runs the test decides about the group; everything else is the same for everybody.
        let default = settings("[daemon]\nsocket_group = \"escher\"").unwrap();
        assert_eq!(shown, format!("{default:?}"));
    }

    #[test]
    fn faults_name_file_line_key_and_what_would_be_right() {
        for (text, parts) in [
            (
                "[execution]\nmax_timeot_ms = 1",
                vec!["escher.toml", "line 2", "max_timeot_ms", "max_timeout_ms"],
            ),
            (
                "[execution]\n\nkill_grace_ms = \"x\"",
                vec!["line 3", "kill_grace_ms", "u64"],
            ),
            (
                "[execution]\nkill_grace_ms = 1\nkill_grace_ms = 2",
                vec!["line 3", "duplicate"],
            ),
            ("[daemons]", vec!["line 1", "daemons"]),
            (
                "[daemon]\nsocket_mode = \"999\"",
                vec!["socket_mode", "999", "0660"],
            ),
            (
                "[execution]\ndefault_timeout_ms = 9\nmax_timeout_ms = 5",
                vec!["default_timeout_ms", "9", "5"],
            ),
        ] {
            let fault = fault(text);
            for part in parts {
                assert!(fault.contains(part), "{fault:?} should have {part:?}");
            }
        }
    }

    #[test]
    fn all_faults_of_a_file_are_told_at_once() {
        let fault = fault(
            "[execution]\nmax_concurrent_executions = 0\n[daemon]\nsocket_mode = \"x\"\nsocket = \"here\"",
        );
        for part in ["max_concurrent_executions", "socket_mode", "daemon.socket"] {
            assert!(fault.contains(part), "{fault:?} should have {part:?}");
        }
    }

    #[test]
    fn json_has_the_same_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("escher.json");
        std::fs::write(&path, "{\"execution\": {\"kill_grace_ms\": 7}}").unwrap();
        let arguments = Arguments::parse_from(["escherd", "--config", path.to_str().unwrap()]);
        assert_eq!(load(&arguments).unwrap().request.kill_grace_ms, 7);
        std::fs::write(&path, "{\"execution\":\n {\"kill_grace\": 7}}").unwrap();
        let fault = load(&arguments).unwrap_err().to_string();
        assert!(
            fault.contains("line 2") && fault.contains("kill_grace_ms"),
            "{fault}"
        );
    }

    #[test]
    fn flags_go_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("escher.toml");
        std::fs::write(
            &path,
            "[daemon]\nstate_dir = \"/from/file\"\nlog_dir = \"/from/file\"",
        )
        .unwrap();
        let flags = [
            "escherd",
            "--state-dir",
            "/from/flag",
            "--config",
            path.to_str().unwrap(),
        ];
        let settings = load(&Arguments::parse_from(flags)).unwrap();
        assert_eq!(settings.state_dir, Path::new("/from/flag"));
        assert_eq!(settings.log_dir, Path::new("/from/file"));
    }
}
