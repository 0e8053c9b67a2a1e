//! What is in force, as the rooms of escherd want it.

use std::path::PathBuf;
use std::time::Duration;

use escher_launcher::ipc::wire::LogLimits;

use super::layers::Layers;
use super::schema::KEYS;
use crate::api::cleanup::CleanupSettings;
use crate::cli::OnStop;
use crate::execution::RequestLimits;
use crate::output::{OutputRules, OversizedOutput};
use crate::scheduler::OnBoot;
use crate::server::{ConnectionLimits, SocketSettings};
use crate::store::{Durability, HistoryLimits};

/// Everything that can be set, decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The socket.
    pub socket: SocketSettings,
    /// Path of the socket for metrics, if there is one.
    pub metrics_socket: Option<PathBuf>,
    /// Connections.
    pub connections: ConnectionLimits,
    /// What becomes of running commands when escherd stops.
    pub on_stop: OnStop,
    /// The engine.
    pub engine: EngineConfig,
}

/// Everything that the engine as a whole needs, in escherd or inside of another program.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What goes when the host does: sockets.
    pub runtime_dir: PathBuf,
    /// What stays: the store, exit records.
    pub state_dir: PathBuf,
    /// The logs of commands.
    pub log_dir: PathBuf,
    /// The launcher's program.
    pub launcher: PathBuf,
    /// The socket of a launcher that runs as a service of its own; `None`: the program is started.
    pub launcher_socket: Option<PathBuf>,
    /// Shims that are kept ready.
    pub warm_shims: usize,
    /// What a commit to the store outlives.
    pub durability: Durability,
    /// What becomes of executions that wait when the host is started anew.
    pub on_boot: OnBoot,
    /// How executions are run and kept.
    pub executions: ExecutionSettings,
}

/// What can change while escherd runs.
#[derive(Debug, Clone, Copy)]
pub struct ExecutionSettings {
    /// What bears on a single request.
    pub request: RequestLimits,
    /// Most executions that run at once.
    pub max_concurrent_executions: usize,
    /// Most executions that wait for that.
    pub max_pending_executions: usize,
    /// Most bytes of the requests that wait.
    pub max_pending_bytes: u64,
    /// How output is served.
    pub output: OutputRules,
    /// Most finished executions in memory.
    pub max_in_memory_executions: usize,
    /// What bounds each log.
    pub log_limits: LogLimits,
    /// What is kept of finished executions.
    pub cleanup: CleanupSettings,
}

impl Settings {
    /// Puts in force what the layers hold.
    pub(super) fn of(layers: &Layers) -> Self {
        let mut settings = Settings::blank();
        for key in KEYS {
            if let Some(held) = layers.get(key.name) {
                key.kind.put(&mut settings, &held.value);
            }
        }
        settings
    }

    /// What the values of the table are put into; none of this is a default of anything.
    fn blank() -> Self {
        Settings {
            socket: SocketSettings {
                path: PathBuf::new(),
                mode: 0,
                group: None,
            },
            metrics_socket: None,
            connections: ConnectionLimits {
                max_connections: 0,
                max_connections_per_user: 0,
            },
            on_stop: OnStop::Leave,
            engine: EngineConfig {
                runtime_dir: PathBuf::new(),
                state_dir: PathBuf::new(),
                log_dir: PathBuf::new(),
                launcher: PathBuf::new(),
                launcher_socket: None,
                warm_shims: 0,
                durability: Durability::Crash,
                on_boot: OnBoot::Resume,
                executions: ExecutionSettings {
                    request: RequestLimits {
                        default_timeout_ms: 0,
                        max_timeout_ms: 0,
                        kill_grace_ms: 0,
                    },
                    max_concurrent_executions: 0,
                    max_pending_executions: 0,
                    max_pending_bytes: 0,
                    output: OutputRules {
                        stream: false,
                        max_bytes: 0,
                        keep_tail_bytes: 0,
                        oversized: OversizedOutput::Truncate,
                    },
                    max_in_memory_executions: 0,
                    log_limits: LogLimits::default(),
                    cleanup: CleanupSettings {
                        is_automatic: false,
                        interval: Duration::ZERO,
                        retention: Duration::ZERO,
                        limits: HistoryLimits {
                            max_age_secs: 0,
                            max_bytes: 0,
                            max_count: 0,
                        },
                    },
                },
            },
        }
    }
}
