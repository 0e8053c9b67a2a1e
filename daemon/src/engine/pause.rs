//! Pausing executions and letting them go on.
//!
//! A shim is told what is wanted and says what the kernel has made of it; whoever has asked is answered by that. Who
//! wants the opposite of what is under way overtakes it.

use escher_launcher::wire::ToShim;
use escher_protocol::{ApiError, ErrorCode, ExecutionId};
use tokio::sync::oneshot;

use super::control::not_running;
use super::{Engine, Entry};
use crate::execution::State;

/// What comes of a pause, or of its end.
pub type PauseReply = Result<(), ApiError>;

/// Whether an execution is stopped, and who wants that changed.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// As its shim has said last.
    is_on: bool,
    /// Those who wait for it to be the other way round.
    waiting: Vec<oneshot::Sender<PauseReply>>,
}

impl Pause {
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    fn answer(&mut self, reply: &PauseReply) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(reply.clone());
        }
    }
}

impl Engine {
    /// Stops everything that the execution `number` runs (`pause`), or lets it go on. The answer comes once that is
    /// so.
    ///
    /// # Errors
    /// Through the answer: `not-running`, also when it ends before; `cannot-pause`.
    pub fn pause(&mut self, number: u64, pause: bool) -> oneshot::Receiver<PauseReply> {
        let (reply, answer) = oneshot::channel();
        let has_cgroups = self.controllers.is_some();
        let Some(entry) = self.entries.get_mut(&number) else {
            return answer;
        };
        if let State::Running { .. } = entry.execution.state {
            if !has_cgroups && !entry.pause.is_on {
                let _ = reply.send(Err(cannot_pause("commands have no cgroups")));
                return answer;
            }
        } else {
            let status = entry.execution.state.status();
            let _ = reply.send(Err(not_running(number, status)));
            return answer;
        }
        if entry.pause.is_on == pause {
            entry.pause.answer(&Err(overtaken(number)));
            let _ = reply.send(Ok(()));
            // A pause that was overtaken is on its way; so is what the shim of an earlier escherd has to say.
            self.order(number, order(pause));
        } else {
            entry.pause.waiting.retain(|waiting| !waiting.is_closed());
            entry.pause.waiting.push(reply);
            self.order_pause(number);
        }
        answer
    }

    /// Tells the shim of `number` what somebody waits for.
    pub(super) fn order_pause(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number)
            && !entry.pause.waiting.is_empty()
        {
            self.order(number, order(!entry.pause.is_on));
        }
    }

    /// The shim of `number` says whether the command is stopped.
    pub(super) fn paused(&mut self, number: u64, is_on: bool) {
        if let Some(entry) = self.entries.get_mut(&number) {
            let reply = match entry.pause.is_on == is_on {
                // What was wanted has not come: there is nothing to stop it by.
                true => Err(cannot_pause("its command has no cgroup")),
                false => Ok(()),
            };
            entry.pause.is_on = is_on;
            entry.pause.answer(&reply);
        }
    }

    /// The shim of `id` is of a version that cannot pause.
    pub fn pause_refused(&mut self, id: ExecutionId) {
        if let Some(number) = self.by_number(id)
            && let Some(entry) = self.entries.get_mut(&number)
        {
            let reason = "an older launcher has started it";
            entry.pause.answer(&Err(cannot_pause(reason)));
        }
    }
}

impl Entry {
    /// It is over: nothing is stopped any more.
    pub(super) fn end_pause(&mut self) {
        let submission = &self.execution.submission;
        let status = self.execution.state.status();
        self.pause
            .answer(&Err(not_running(submission.number, status)));
        self.pause.is_on = false;
    }
}

fn order(pause: bool) -> ToShim {
    match pause {
        true => ToShim::Pause,
        false => ToShim::Resume,
    }
}

fn cannot_pause(reason: &str) -> ApiError {
    let message = format!("the execution cannot be paused or resumed: {reason}");
    ApiError::new(ErrorCode::CANNOT_PAUSE, message).with_hint(
        "that needs a cgroup v2 that is delegated to the launcher (Delegate=yes in its unit), and a \
         command that was started with it",
    )
}

/// Somebody else wants the opposite.
fn overtaken(number: u64) -> ApiError {
    let message =
        format!("somebody else wanted the opposite for execution {number} before it was done");
    ApiError::new(ErrorCode::CANNOT_PAUSE, message)
}
