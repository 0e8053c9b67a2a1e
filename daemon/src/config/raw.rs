//! A configuration file as it is written: every key optional, none unknown.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::OnBoot;
use crate::store::Durability;

/// What a file says. `docs/configuration.md` tells what the keys mean.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    pub(super) daemon: RawDaemon,
    pub(super) execution: RawExecution,
    pub(super) store: RawStore,
    pub(super) history: RawHistory,
    /// The file.
    #[serde(skip)]
    pub(super) origin: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDaemon {
    pub(super) socket: Option<PathBuf>,
    pub(super) socket_mode: Option<String>,
    pub(super) socket_group: Option<String>,
    pub(super) runtime_dir: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) log_dir: Option<PathBuf>,
    pub(super) launcher: Option<PathBuf>,
    pub(super) warm_shims: Option<usize>,
    pub(super) on_boot: Option<OnBoot>,
    pub(super) max_connections: Option<usize>,
    pub(super) max_connections_per_user: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawExecution {
    pub(super) default_timeout_ms: Option<u64>,
    pub(super) max_timeout_ms: Option<u64>,
    pub(super) log_dir: Option<PathBuf>,
    pub(super) max_concurrent_executions: Option<usize>,
    pub(super) max_pending_executions: Option<usize>,
    pub(super) max_pending_bytes: Option<u64>,
    pub(super) max_output_size_bytes: Option<u64>,
    pub(super) kill_grace_ms: Option<u64>,
    pub(super) max_in_memory_executions: Option<usize>,
    pub(super) execution_retention_secs: Option<u64>,
    pub(super) enable_auto_cleanup: Option<bool>,
    pub(super) cleanup_interval_secs: Option<u64>,
    pub(super) max_log_bytes: Option<u64>,
    pub(super) log_min_free_bytes: Option<u64>,
    pub(super) log_full: Option<LogFull>,
}

/// What becomes of a command whose log takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogFull {
    Drain,
    Kill,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    pub(super) durability: Option<Durability>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHistory {
    pub(super) max_age_secs: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) max_count: Option<u64>,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be: syntax, an unknown key, a wrong type. The reason names line and
    /// key.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what was expected.
        reason: String,
    },
    /// Values that make no sense, all of them.
    #[error("{}{}", origin.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display())), faults.join("; "))]
    Invalid {
        /// The file, if they come from one.
        origin: Option<PathBuf>,
        /// One sentence for each.
        faults: Vec<String>,
    },
    /// A user's directory is not known.
    #[error("{0} is not set; set it, or name the directory with {1}")]
    NoDirectory(&'static str, &'static str),
}

/// Reads the file at `path`, as JSON if its name says so, else as TOML.
///
/// # Errors
/// [`ConfigError::Unreadable`] or [`ConfigError::Malformed`].
pub fn read_file(path: &Path) -> Result<RawConfig, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let parsed: Result<RawConfig, String> = match path.extension() {
        Some(ending) if ending == "json" => {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        }
        _ => toml::from_str(&text).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(raw) => Ok(RawConfig {
            origin: Some(path.to_owned()),
            ..raw
        }),
        Err(reason) => Err(ConfigError::Malformed {
            path: path.to_owned(),
            reason: reason.trim_end().to_owned(),
        }),
    }
}
