//! Control of executions: cancel, signals, standard input.

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::message::{CancelOutcome, EventKind};
use escher_protocol::{ApiError, CancelMode, Canceller, ErrorCode, Timestamp};
use tokio::sync::oneshot;

use super::persist::{CancelReply, Evidence, Then};
use super::{Effect, Scheduler};
use crate::authz::Scope;
use crate::execution::{Action, Event, StdinReply, Write};
use crate::store::Change;

/// The highest number of a signal (signal(7)).
const MAX_SIGNAL: i32 = 64;

impl Scheduler {
    /// Cancels the execution `number`. The answer comes once the cancel is committed.
    pub fn cancel(
        &mut self,
        scope: &Scope,
        number: u64,
        mode: CancelMode,
        now: Timestamp,
    ) -> oneshot::Receiver<Result<CancelOutcome, ApiError>> {
        let (reply, answer) = oneshot::channel();
        self.begin_cancel(number, scope.canceller(), mode, now, Some(reply));
        answer
    }

    /// Cancels the execution `number` without an answer.
    pub(super) fn cancel_number(
        &mut self,
        number: u64,
        by: Canceller,
        mode: CancelMode,
        now: Timestamp,
    ) {
        self.begin_cancel(number, by, mode, now, None);
    }

    fn begin_cancel(
        &mut self,
        number: u64,
        by: Canceller,
        mode: CancelMode,
        at: Timestamp,
        reply: CancelReply,
    ) {
        let event = Event::Cancel {
            by: by.clone(),
            mode,
            at,
        };
        match self.transition(number, event) {
            Some(Action::Reply(outcome @ CancelOutcome::Withdrawn)) => {
                if self.queue.remove(&number) {
                    self.leaves_queue(number);
                }
                let requested = self.event(number, at, EventKind::CancelRequested(by));
                let requested = requested.into_iter().collect();
                self.finished(
                    number,
                    at,
                    Evidence::None,
                    requested,
                    Some((reply, outcome)),
                );
            }
            Some(Action::Reply(outcome)) => match self.entries.get_mut(&number) {
                // The end must not be reported before it is committed.
                Some(entry) if entry.is_over() && !entry.is_told => entry.late.extend(reply),
                _ => {
                    if let Some(reply) = reply {
                        let _ = reply.send(Ok(outcome));
                    }
                }
            },
            Some(Action::End {
                by,
                kill,
                reply: outcome,
            }) => {
                let is_first = outcome == CancelOutcome::Ending;
                let kind = EventKind::CancelRequested(by.clone());
                let event = is_first.then(|| self.event(number, at, kind)).flatten();
                let message = ToShim::Cancel {
                    by: by.clone(),
                    kill,
                };
                self.send(number, message);
                let change = Change::CancelRequested {
                    number,
                    canceller: by,
                    kill,
                };
                self.record(
                    change,
                    event.into_iter().collect(),
                    Then::Cancel { reply, outcome },
                );
            }
            // A cancel is valid in every state and has no other action.
            _ => {}
        }
    }

    /// Sends a signal to the main process of the execution `number`.
    ///
    /// # Errors
    /// `not-running`; `invalid-request` if there is no such signal.
    pub fn signal(&mut self, number: u64, signal: i32) -> Result<(), ApiError> {
        check_signal(signal)?;
        let status = match self.entries.get(&number) {
            Some(entry) if entry.execution.state.is_launched() => {
                self.send(number, ToShim::Signal { signal });
                return Ok(());
            }
            Some(entry) => entry.execution.state.status(),
            None => return Ok(()),
        };
        Err(not_running(number, status))
    }

    /// Writes to the standard input of the execution `number`. The answer comes once the shim has accepted the bytes.
    pub fn write_stdin(&mut self, number: u64, write: Write) -> oneshot::Receiver<StdinReply> {
        let (sender, receiver) = oneshot::channel();
        if let Some(entry) = self.entries.get_mut(&number)
            && let Err((reply, sender)) = entry.execution.stdin.write(write, sender)
        {
            let _ = sender.send(reply);
        }
        self.send_input(number);
        receiver
    }

    /// Sends queued input to the shim, as far as its window allows.
    pub(super) fn send_input(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let id = entry.execution.submission.id;
        while let Some(Write { data, end, .. }) = entry.execution.stdin.next_to_send() {
            let input = ToShim::Input { data, end };
            self.effects.push(Effect::Send(id, input));
        }
    }

    pub(super) fn close_stdin(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            for (reply, sender) in entry.execution.stdin.close() {
                let _ = sender.send(reply);
            }
        }
    }

    /// Refuses new submissions from now on, and cancels all unfinished executions.
    pub fn cancel_all(&mut self, now: Timestamp) {
        self.is_shutting_down = true;
        let unfinished: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_recorded)
            .filter(|(_, entry)| !entry.is_over())
            .map(|(number, _)| *number)
            .collect();
        for number in unfinished {
            self.cancel_number(number, Canceller::Host, CancelMode::Graceful, now);
        }
    }
}

/// Checks that `signal` is the number of a signal.
///
/// # Errors
/// `invalid-request`.
pub fn check_signal(signal: i32) -> Result<(), ApiError> {
    if (1..=MAX_SIGNAL).contains(&signal) {
        Ok(())
    } else {
        let message = format!("{signal} is not a signal number (1 to {MAX_SIGNAL})");
        Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
    }
}

/// Returns the error for an action that needs a running execution.
#[must_use]
pub fn not_running(number: u64, status: escher_protocol::Status) -> ApiError {
    let message = format!("execution {number} is {status}");
    ApiError::new(ErrorCode::NOT_RUNNING, message)
}
