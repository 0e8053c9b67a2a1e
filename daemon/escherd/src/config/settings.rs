//! Settings as values, one structure for each part of escherd.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use escher_launcher::ipc::wire::LogLimits;
use escher_protocol::ResourceLimits;

use super::percent::Percent;
use crate::execution::RequestLimits;
use crate::output::OutputRules;
use crate::store::{Durability, HistoryLimits};

/// The settings of escherd as a whole.
#[derive(Debug, Clone)]
pub struct DaemonSettings {
    /// The socket for clients.
    pub socket: SocketSettings,
    /// Path of the socket for metrics; `None`: there is none.
    pub metrics_socket: Option<PathBuf>,
    /// Limits on connections. A reload changes them.
    pub connections: ConnectionLimits,
    /// Limits on the memory of clients. A reload changes them.
    pub client_memory: ClientMemoryLimits,
    /// What happens to running commands when escherd stops.
    pub on_stop: OnStop,
    /// Settings of escherd's engine.
    pub engine: EngineSettings,
}

/// Path and permissions of a socket.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// Its path.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// The group that owns it. If the host has no such group, it stays with escherd's own, with a
    /// warning.
    pub group: Option<String>,
}

/// Limits on the number of connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Maximum number of connections. Root may have
    /// [`ROOT_RESERVE`](crate::host::fd_budget::ROOT_RESERVE) more.
    pub max_connections: usize,
    /// Maximum number of connections of one user other than root.
    pub max_connections_per_user: usize,
}

/// Limits on the memory that requests and answers of clients take.
#[derive(Debug, Clone, Copy)]
pub struct ClientMemoryLimits {
    /// Maximum number of bytes of all users.
    pub max_bytes: usize,
    /// Maximum number of bytes of one user other than root.
    pub max_bytes_per_user: usize,
}

/// What happens to running commands when escherd stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OnStop {
    /// They go on, with their timeouts and logs
    #[default]
    Leave,
    /// They are ended: SIGTERM, the grace period, SIGKILL
    Cancel,
}

/// What happens to pending executions when the host boots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBoot {
    /// They start, in their order.
    #[default]
    Resume,
    /// They are cancelled, and the host is recorded as the one that cancelled them.
    Drop,
}

/// The settings with which an engine starts, in escherd or embedded in another program.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Directory of sockets. It need not survive a boot.
    pub runtime_dir: PathBuf,
    /// Directory of the store and of exit records. It must survive a boot.
    pub state_dir: PathBuf,
    /// Directory of the commands' logs.
    pub log_dir: PathBuf,
    /// Path of the launcher's program.
    pub launcher: PathBuf,
    /// Socket of a launcher that runs as a service of its own; `None`: the engine starts the
    /// program.
    pub launcher_socket: Option<PathBuf>,
    /// Number of shims that are kept ready.
    pub warm_shims: usize,
    /// What a commit to the store survives.
    pub durability: Durability,
    /// What happens to pending executions when the host boots.
    pub on_boot: OnBoot,
    /// Longest time from SIGTERM to SIGKILL for commands that are ended because the engine stops.
    pub stop_grace: Duration,
    /// Settings that can change while the engine runs.
    pub reloadable: ReloadableSettings,
}

/// The settings of an engine that can change while it runs:
/// [`ExecutionEngine::configure`](crate::api::ExecutionEngine::configure) applies them, which a
/// reload of escherd's configuration calls.
#[derive(Debug, Clone, Copy)]
pub struct ReloadableSettings {
    /// Limits on a single request.
    pub request: RequestLimits,
    /// Maximum number of running executions.
    pub max_concurrent_executions: usize,
    /// Maximum number of pending executions.
    pub max_pending_executions: usize,
    /// Maximum size in bytes of all pending requests together, which are in the store.
    pub max_pending_bytes: u64,
    /// The share of both that one user may take, where escherd serves several.
    pub queue_share: Percent,
    /// The share of the log disk that the logs of one user other than root may take, where escherd serves
    /// several.
    pub log_share: Percent,
    /// Limits of everything that one user other than root runs, where escherd serves several.
    pub user_limits: ResourceLimits,
    /// Maximum number of executions of one user other than root that may have left processes running, where
    /// escherd serves several.
    pub max_left: u32,
    /// How output is served.
    pub output: OutputRules,
    /// Maximum number of finished executions in memory.
    pub max_in_memory_executions: usize,
    /// How often a launch is begun, if escherd dies each time.
    pub max_launch_attempts: u32,
    /// Limits on each log.
    pub log_limits: LogLimits,
    /// Free bytes of the store's disk below which submissions are refused.
    pub store_min_free_bytes: u64,
    /// How finished executions are cleaned up.
    pub cleanup: CleanupSettings,
}

/// How finished executions are cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupSettings {
    /// Whether cleanup runs by itself.
    pub is_automatic: bool,
    /// Time between two runs.
    pub interval: Duration,
    /// How long a finished execution stays in memory.
    pub retention: Duration,
    /// Limits on the history.
    pub limits: HistoryLimits,
    /// How long a store that was set aside is kept.
    pub set_aside_age: Duration,
}
