//! escherd's state and metrics.

use std::path::Path;

use serde::Serialize;

use super::object::{line, rfc3339};
use crate::message::DaemonInfo;

/// Returns the object for the state and limits of an escherd that is reached at `socket` and calls
/// itself `daemon`.
pub fn info(info: &DaemonInfo, daemon: &str, protocol_version: u16, socket: &Path) -> String {
    #[derive(Serialize)]
    struct Line {
        socket: String,
        version: String,
        daemon: String,
        protocol_version: u16,
        instance: String,
        pid: u32,
        uid: u32,
        started_at: String,
        serves_all_users: bool,
        launcher_pid: Option<u32>,
        log_dir: String,
        state_dir: String,
        pending: u64,
        running: u64,
        finished: u64,
        max_concurrent_executions: u64,
        max_pending_executions: u64,
        default_timeout_ms: u64,
        max_timeout_ms: u64,
        max_output_size_bytes: u64,
    }
    line(&Line {
        socket: socket.to_string_lossy().into_owned(),
        version: info.version.to_string(),
        daemon: daemon.to_owned(),
        protocol_version,
        instance: info.instance.to_string(),
        pid: info.pid,
        uid: info.uid,
        started_at: rfc3339(info.started_at),
        serves_all_users: info.serves_all_users,
        launcher_pid: info.launcher_pid,
        log_dir: info.log_dir.to_string_lossy().into_owned(),
        state_dir: info.state_dir.to_string_lossy().into_owned(),
        pending: info.pending,
        running: info.running,
        finished: info.finished,
        max_concurrent_executions: info.max_concurrent_executions,
        max_pending_executions: info.max_pending_executions,
        default_timeout_ms: info.default_timeout_ms,
        max_timeout_ms: info.max_timeout_ms,
        max_output_size_bytes: info.max_output_size_bytes,
    })
}

/// Returns the object that contains the metrics as OpenMetrics text.
pub fn metrics(text: &str) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        metrics: &'a str,
    }
    line(&Line { metrics: text })
}
