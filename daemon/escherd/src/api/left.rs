//! Access to what finished executions have left running.

use escher_protocol::{
    ApiError, ErrorCode, ExecutionRecord, Leftovers, SignalAnswer, SignalRecipients,
};

use super::ExecutionEngine;
use super::signal::signalled;
use crate::scheduler::SignalRequest;

impl ExecutionEngine {
    /// Sends a signal for all processes to what a finished execution has left. Returns `error` if there is nothing,
    /// or the signal is for others.
    pub(super) async fn signal_left(
        &self,
        number: u64,
        request: SignalRequest,
        error: ApiError,
    ) -> Result<SignalAnswer, ApiError> {
        if request.recipients != SignalRecipients::Tree {
            return Err(error);
        }
        let record = self.get_status(number.to_string().as_str()).await?;
        if !has_left(&record) {
            return Err(error);
        }
        let by = self.scope.caller().clone();
        let sent = self.core.left_processes.signal(&record, request, by).await;
        if !sent.map_err(|error| unreachable(&record, &error))? {
            return Err(error);
        }
        self.log_control(number, signalled(request)).await;
        Ok(SignalAnswer::Sent)
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
