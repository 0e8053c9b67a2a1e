//! Sending signals to executions.

use std::sync::Arc;

use escher_protocol::message::CancelAnswer;
use escher_protocol::{
    ApiError, ErrorCode, SignalAnswer, SignalRecipients, SignalSerial, Target, Timestamp,
};

use super::control_log::ControlAction;
use super::target::ActionResult;
use super::{ExecutionEngine, scheduler_stopped};
use crate::scheduler::{Scheduler, SignalProgress, SignalRequest, check_signal, not_running};

impl ExecutionEngine {
    /// Sends a signal (by its number, signal(7)) to an execution's main process.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `not-running`; `invalid-request` for a number that is not
    /// a signal; `too-many-requests`.
    pub async fn signal(&self, target: impl Into<Target>, signal: i32) -> Result<(), ApiError> {
        let request = unique(signal, SignalRecipients::MainProcess);
        self.send_signal(target.into(), request).await.map(drop)
    }

    /// Sends a signal to the process group of an execution's main process, as from a terminal. Where
    /// there is none the execution is cancelled: see [`SignalRecipients::ProcessGroup`].
    ///
    /// # Errors
    /// As [`ExecutionEngine::signal`], and `store-unavailable`.
    pub async fn signal_group(
        &self,
        target: impl Into<Target>,
        signal: i32,
    ) -> Result<SignalAnswer, ApiError> {
        let request = unique(signal, SignalRecipients::ProcessGroup);
        self.send_signal(target.into(), request).await
    }

    /// Sends a signal to all processes of an execution, also to those that its main process has left behind.
    ///
    /// # Errors
    /// As [`ExecutionEngine::signal`]; `internal` if what a finished execution has left cannot be reached.
    pub async fn signal_tree(
        &self,
        target: impl Into<Target>,
        signal: i32,
    ) -> Result<(), ApiError> {
        let request = unique(signal, SignalRecipients::Tree);
        self.send_signal(target.into(), request).await.map(drop)
    }

    /// Sends a signal, once however often it is asked for with the same serial.
    pub(crate) async fn send_signal(
        &self,
        target: Target,
        request: SignalRequest,
    ) -> Result<SignalAnswer, ApiError> {
        let scope = Arc::clone(&self.scope);
        let send = move |scheduler: &mut Scheduler, number| {
            let progress = scheduler.signal(&scope, number, request, Timestamp::now());
            (number, progress)
        };
        let (number, progress) = match self.act_on(target, send).await? {
            ActionResult::Done(done) => done,
            ActionResult::OnlyInStore(record) => {
                check_signal(request.signal)?;
                let error = not_running(record.number, record.status);
                (record.number, Err(error))
            }
        };
        let progress = match progress {
            Ok(progress) => progress,
            Err(error) if error.code == ErrorCode::NOT_RUNNING => {
                return self.signal_left(number, request, error).await;
            }
            Err(error) => return Err(error),
        };
        match progress {
            SignalProgress::Sending(answer) => {
                let answer = answer.await.map_err(scheduler_stopped)??;
                self.log_control(number, signalled(request)).await;
                Ok(answer)
            }
            SignalProgress::Cancelling(number, answer) => {
                match answer.await.map_err(scheduler_stopped)?? {
                    CancelAnswer::AlreadyFinished(status) => Err(not_running(number, status)),
                    _ => Ok(SignalAnswer::Cancelled),
                }
            }
        }
    }
}

/// Returns what was done by a request, for the log.
pub(super) fn signalled(request: SignalRequest) -> ControlAction {
    ControlAction::Signal {
        signal: request.signal,
        recipients: request.recipients,
    }
}

/// A signal of this process alone, which is not repeated.
fn unique(signal: i32, recipients: SignalRecipients) -> SignalRequest {
    SignalRequest {
        signal,
        recipients,
        serial: SignalSerial::unique(),
    }
}
