//! Sending signals to executions.

use std::sync::Arc;

use escher_protocol::message::CancelAnswer;
use escher_protocol::{ApiError, SignalAnswer, SignalRecipients, SignalSerial, Target, Timestamp};

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

    /// Sends a signal to all processes of an execution, also to those that its main process has left behind
    /// and that still have time to end.
    ///
    /// # Errors
    /// As [`ExecutionEngine::signal`].
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
            scheduler.signal(&scope, number, request, Timestamp::now())
        };
        let progress = match self.act_on(target, send).await? {
            ActionResult::Done(progress) => progress?,
            ActionResult::OnlyInStore(record) => {
                check_signal(request.signal)?;
                return Err(not_running(record.number, record.status));
            }
        };
        match progress {
            SignalProgress::Sending(answer) => answer.await.map_err(scheduler_stopped)?,
            SignalProgress::Cancelling(number, answer) => {
                match answer.await.map_err(scheduler_stopped)?? {
                    CancelAnswer::AlreadyFinished(status) => Err(not_running(number, status)),
                    _ => Ok(SignalAnswer::Cancelled),
                }
            }
        }
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
