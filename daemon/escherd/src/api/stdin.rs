//! The standard input of executions.

use std::time::Duration;

use escher_protocol::message::MAX_STDIN_BYTES;
use escher_protocol::{ApiError, ErrorCode, ExecutionId, ExecutionRecord, Target, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::target::ActionResult;
use super::{ExecutionEngine, scheduler_stopped};
use crate::execution::{StdinAnswer, StdinWrite};
use crate::scheduler::{HeldStdin, HoldAnswer, Scheduler, SchedulerHandle};

/// How long a writer waits for the one before it to give up an input.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

impl ExecutionEngine {
    /// Writes to a command's standard input. Waits until the shim has the bytes, and returns how
    /// many bytes of input it has received in total.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `stdin-closed` if the command accepts no more input;
    /// `stdin-offset` if the offset leaves a gap; `invalid-request` for more than
    /// [`MAX_STDIN_BYTES`].
    pub async fn write_stdin(&self, target: impl Into<Target>, write: StdinWrite) -> StdinAnswer {
        if write.data.len() > MAX_STDIN_BYTES {
            let length = write.data.len();
            let message =
                format!("a write of {length} bytes to standard input exceeds {MAX_STDIN_BYTES}");
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        let write = move |scheduler: &mut Scheduler, number| scheduler.write_stdin(number, write);
        match self.act_on(target.into(), write).await? {
            ActionResult::Done(receiver) => receiver.await.map_err(scheduler_stopped)?,
            ActionResult::OnlyInStore(record) => Err(finished(&record)),
        }
    }

    /// Holds a command's standard input, as its only writer, until the value is dropped. Waits a moment for a
    /// writer before it, which may have ended without having given it up yet.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `stdin-closed`; `stdin-held` if another writer goes on.
    pub async fn hold_stdin(&self, target: impl Into<Target>) -> Result<StdinHold, ApiError> {
        let mut target = target.into();
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        loop {
            let (id, released) = match self.try_hold_stdin(target).await? {
                Ok(hold) => return Ok(hold),
                Err(taken) => taken,
            };
            if timeout_at(deadline, released).await.is_err() {
                let message = "another client feeds the standard input of the execution";
                return Err(ApiError::new(ErrorCode::STDIN_HELD, message)
                    .with_hint("wait until it has finished, or end it"));
            }
            target = id.into();
        }
    }

    /// Holds an input, or returns what completes once another writer has given it up.
    async fn try_hold_stdin(
        &self,
        target: Target,
    ) -> Result<Result<StdinHold, (ExecutionId, oneshot::Receiver<()>)>, ApiError> {
        let handle = self.core.scheduler.clone();
        // Made within the scheduler, so that it is given up even if nobody waits for it any more.
        let hold = move |scheduler: &mut Scheduler, number| {
            Ok(match scheduler.hold_stdin(number)? {
                HoldAnswer::Held(held) => Ok(StdinHold {
                    scheduler: handle,
                    held,
                }),
                HoldAnswer::Taken { id, released } => Err((id, released)),
            })
        };
        match self.act_on(target, hold).await? {
            ActionResult::Done(hold) => hold,
            ActionResult::OnlyInStore(record) => Err(finished(&record)),
        }
    }

    /// Says that the rest of a command's standard input cannot be had: then the execution is cancelled, or its
    /// input ends, as its request says.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`].
    pub async fn lose_stdin(&self, target: impl Into<Target>) -> Result<(), ApiError> {
        let lose = |scheduler: &mut Scheduler, number| {
            scheduler.lose_stdin(number, Timestamp::now());
        };
        self.act_on(target.into(), lose).await.map(drop)
    }
}

fn finished(record: &ExecutionRecord) -> ApiError {
    let message = format!("execution {} is {}", record.number, record.status);
    ApiError::new(ErrorCode::STDIN_CLOSED, message)
}

/// A standard input that its holder alone may write. Made by [`ExecutionEngine::hold_stdin`].
#[derive(Debug)]
pub struct StdinHold {
    scheduler: SchedulerHandle,
    held: HeldStdin,
}

impl StdinHold {
    /// Returns where the next byte belonged when the hold began.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.held.offset
    }

    /// Waits until the input is over: it was ended, or the command has closed it.
    pub async fn over(&mut self) {
        let _ = (&mut self.held.over).await;
    }
}

impl Drop for StdinHold {
    fn drop(&mut self) {
        let (id, token) = (self.held.id, self.held.token);
        let scheduler = self.scheduler.clone();
        // Without a runtime the engine has ended, too.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let release = move |scheduler: &mut Scheduler| scheduler.release_stdin(id, token);
                let _ = scheduler.post(release).await;
            });
        }
    }
}
