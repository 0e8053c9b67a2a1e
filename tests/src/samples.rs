//! Sample values for tests.

use escher_protocol::{
    Command, ExecutionId, ExecutionRecord, InstanceId, Parts, Resources, Status, StdinMode,
    Timestamp, User, message::DaemonInfo,
};

/// A completed execution with this number and an id made from it.
#[must_use]
pub fn record(number: u64) -> ExecutionRecord {
    let user = User {
        uid: 1000,
        name: None,
    };
    ExecutionRecord {
        id: ExecutionId::from_bytes(u128::from(number).to_be_bytes()),
        number,
        name: None,
        key: None,
        status: Status::Completed,
        user: user.clone(),
        submitted_by: user,
        command: Command::default(),
        command_cut: false,
        working_dir: "/".into(),
        stdin: StdinMode::Null,
        labels: Vec::new(),
        timeout_ms: None,
        kill_grace_ms: 0,
        submitted_at: Timestamp::from_micros(0),
        started_at: None,
        completed_at: None,
        pid: None,
        cancelled_by: None,
        log_path: "/log".into(),
        outcome: None,
        resources: Resources::default(),
        parts: Parts::new(),
    }
}

/// An escherd that has run nothing yet.
#[must_use]
pub fn daemon_info() -> DaemonInfo {
    DaemonInfo {
        version: "0".into(),
        instance: InstanceId::from_bytes([2; 16]),
        pid: 1,
        uid: 0,
        started_at: Timestamp::from_micros(0),
        serves_all_users: false,
        launcher_pid: None,
        log_dir: "/l".into(),
        state_dir: "/s".into(),
        pending: 0,
        running: 0,
        finished: 0,
        max_concurrent_executions: 1,
        max_pending_executions: 1,
        default_timeout_ms: 0,
        max_timeout_ms: 0,
        max_output_size_bytes: 0,
    }
}
