//! Access to what finished executions have left running.

use escher_protocol::{ApiError, ErrorCode, ExecutionRecord, Leftovers, Target};

use super::ExecutionEngine;
use super::control_log::ControlAction;

impl ExecutionEngine {
    /// Sends a signal to what a finished execution has left. Returns whether there is anything.
    pub(super) async fn signal_left(&self, target: Target, signal: i32) -> Result<bool, ApiError> {
        let record = self.get_status(target).await?;
        if !has_left(&record) {
            return Ok(false);
        }
        let signalled = self.core.left_processes.signal(&record, signal).await;
        let is_there = signalled.map_err(|error| unreachable(&record, &error))?;
        if is_there {
            let action = ControlAction::Signal { signal, tree: true };
            self.log_control(record.number, action).await;
        }
        Ok(is_there)
    }

    /// Ends what a finished execution has left, if it has, and waits for that.
    pub(super) async fn end_left(&self, record: &ExecutionRecord) -> Result<(), ApiError> {
        if !has_left(record) {
            return Ok(());
        }
        let ended = self.core.left_processes.end(record, self.scope.canceller());
        ended.await.map_err(|error| unreachable(record, &error))
    }
}

fn has_left(record: &ExecutionRecord) -> bool {
    let outcome = record.outcome.as_ref();
    outcome.is_some_and(|outcome| outcome.leftovers == Leftovers::Left)
}

fn unreachable(record: &ExecutionRecord, error: &std::io::Error) -> ApiError {
    let number = record.number;
    let message = match error.kind() {
        std::io::ErrorKind::TimedOut => {
            format!("processes that execution {number} has left do not end")
        }
        _ => format!("the shim of what execution {number} has left cannot be reached: {error}"),
    };
    ApiError::new(ErrorCode::INTERNAL, message)
}
