//! Facts about a running escherd.

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Text};
use crate::id::InstanceId;
use crate::time::Timestamp;

/// Facts about a running escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// escherd's version.
    pub version: Text,
    /// The id of this run of escherd.
    pub instance: InstanceId,
    /// The process id.
    pub pid: u32,
    /// The uid that it runs as.
    pub uid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// Whether it can run commands as any user; otherwise only as its own user.
    pub serves_all_users: bool,
    /// The launcher's process id; `None` while there is none.
    pub launcher_pid: Option<u32>,
    /// Directory of the logs.
    pub log_dir: Blob,
    /// Directory of the state that survives a reboot.
    pub state_dir: Blob,
    /// Number of waiting executions, of all users, as the next two.
    pub pending: u64,
    /// Number of running executions.
    pub running: u64,
    /// Number of finished executions that escherd still knows.
    pub finished: u64,
    /// Most executions that run at once.
    pub max_concurrent_executions: u64,
    /// Most executions that wait.
    pub max_pending_executions: u64,
    /// Timeout of executions without one of their own, in milliseconds; 0: no timeout.
    pub default_timeout_ms: u64,
    /// Longest timeout that a request may have, in milliseconds; 0: any.
    pub max_timeout_ms: u64,
    /// Most bytes of each stream in a result.
    pub max_output_size_bytes: u64,
}
