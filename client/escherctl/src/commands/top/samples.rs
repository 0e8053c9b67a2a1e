//! Executions for tests.

use escher_client::{Command, ExecutionRecord, Status, Timestamp, WaitReason};
use escher_tests::samples::record;

/// When sample executions were started.
pub(super) const STARTED_AT: Timestamp = Timestamp::from_micros(1_000_000);

/// An execution that runs `sleep` and its number.
pub(super) fn running(number: u64) -> ExecutionRecord {
    ExecutionRecord {
        status: Status::Running,
        started_at: Some(STARTED_AT),
        command: Command::Exec {
            argv: vec!["sleep".into(), number.to_string().as_str().into()],
        },
        ..record(number)
    }
}

/// An execution that waits for a slot.
pub(super) fn pending(number: u64) -> ExecutionRecord {
    ExecutionRecord {
        status: Status::Pending,
        waits_for: Some(WaitReason::Slot(None)),
        started_at: None,
        ..running(number)
    }
}
