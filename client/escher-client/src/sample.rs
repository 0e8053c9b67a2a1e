//! A record for tests.

use escher_protocol::execution::User;
use escher_protocol::{
    Command, ExecutionId, ExecutionRecord, Parts, Resources, Status, StdinMode, Timestamp,
};

/// An execution with this number.
pub(crate) fn record(number: u64) -> ExecutionRecord {
    let user = User {
        uid: 1000,
        name: None,
    };
    ExecutionRecord {
        id: ExecutionId::from_bytes([1; 16]),
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
