//! How long commands have run.

use std::time::Duration;

use escher_client::{ExecutionRecord, Status, Timestamp};

use crate::time;

/// Returns how long the command has run; `None` before its start.
pub(crate) fn running_time(record: &ExecutionRecord, now: Timestamp) -> Option<Duration> {
    match (&record.outcome, record.started_at) {
        (Some(outcome), _) => Some(Duration::from_micros(outcome.duration_us)),
        (None, Some(started_at)) if record.status == Status::Running => {
            Some(time::between(started_at, now))
        }
        _ => None,
    }
}
