//! Control of executions: cancel, standard input.

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::message::{CancelAnswer, EventKind};
use escher_protocol::{ApiError, CancelMode, Canceller, ErrorCode, Timestamp};
use tokio::sync::oneshot;

use super::persist::{CancelResponder, OnCommit, respond};
use super::withdrawal::LaunchPhase;
use super::{Effect, Scheduler};
use crate::authz::Scope;
use crate::execution::{Action, StdinAnswer, StdinWrite, Transition};
use crate::store::Change;

impl Scheduler {
    /// Cancels the execution `number`. The answer comes once the cancel is committed.
    pub fn cancel(
        &mut self,
        scope: &Scope,
        number: u64,
        mode: CancelMode,
        now: Timestamp,
    ) -> oneshot::Receiver<Result<CancelAnswer, ApiError>> {
        let (responder, answer) = oneshot::channel();
        self.begin_cancel(number, scope.canceller(), mode, now, Some(responder));
        answer
    }

    /// Cancels the execution `number` without an answer.
    pub(super) fn cancel_without_answer(
        &mut self,
        number: u64,
        by: Canceller,
        mode: CancelMode,
        now: Timestamp,
    ) {
        self.begin_cancel(number, by, mode, now, None);
    }

    /// Cancels an execution that is queued, or that a shim has, or that has finished.
    pub(super) fn cancel_queued_or_launched(
        &mut self,
        number: u64,
        by: Canceller,
        mode: CancelMode,
        at: Timestamp,
        responder: CancelResponder,
    ) {
        let cancel = Transition::Cancel {
            by: by.clone(),
            mode,
            at,
        };
        match self.transition(number, cancel) {
            Some(Action::AnswerCancel(CancelAnswer::Withdrawn)) => {
                if let Some(entry) = self.entries.get(&number) {
                    self.shares.withdraw(entry.submitter().uid, number);
                }
                self.finish_withdrawn(number, by, at, responder);
            }
            Some(Action::AnswerCancel(answer)) => match self.entries.get_mut(&number) {
                // The end must not be reported before it is committed.
                Some(entry) if entry.is_over() && !entry.is_end_reported => {
                    entry.late_cancels.extend(responder)
                }
                // The earlier cancel may be in memory alone: this one waits for a commit, too.
                Some(entry) if !entry.is_over() && entry.launch_phase != LaunchPhase::Reported => {
                    let change = Change::CancelRequested {
                        number,
                        canceller: by,
                        mode: CancelMode::Graceful,
                    };
                    self.commit(
                        change,
                        Vec::new(),
                        OnCommit::cancel(number, responder, answer),
                    );
                }
                _ => respond(responder, Ok(answer)),
            },
            Some(Action::SendCancel { by, mode, answer }) => {
                let is_first = answer == CancelAnswer::Ending;
                let kind = EventKind::CancelRequested(by.clone());
                let event = is_first.then(|| self.event(number, at, kind)).flatten();
                let message = ToShim::Cancel {
                    by: by.clone(),
                    mode,
                };
                self.send(number, message);
                let change = Change::CancelRequested {
                    number,
                    canceller: by,
                    mode,
                };
                self.commit(
                    change,
                    event.into_iter().collect(),
                    OnCommit::cancel(number, responder, answer),
                );
            }
            // A cancel is valid in every state and has no other action.
            _ => {}
        }
    }

    /// Writes to the standard input of the execution `number`. The answer comes once the shim has accepted the bytes.
    pub fn write_stdin(
        &mut self,
        number: u64,
        write: StdinWrite,
    ) -> oneshot::Receiver<StdinAnswer> {
        let (responder, receiver) = oneshot::channel();
        if let Some(entry) = self.entries.get_mut(&number)
            && let Err((answer, responder)) = entry.execution.stdin.write(write, responder)
        {
            let _ = responder.send(answer);
        }
        let entry = self.entries.get(&number);
        if entry.is_some_and(|entry| !entry.execution.stdin.is_open()) {
            self.end_stdin_hold(number);
        }
        self.send_input(number);
        receiver
    }

    /// Sends queued input to the shim, if there is one, as far as its window allows.
    pub(super) fn send_input(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if !entry.launch_phase.accepts_messages() {
            return;
        }
        let id = entry.execution.submission.id;
        while let Some(StdinWrite { data, end, .. }) = entry.execution.stdin.next_to_send() {
            let input = ToShim::Input { data, end };
            self.effects.push(Effect::Send(id, input));
        }
    }

    pub(super) fn close_stdin(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            for (answer, responder) in entry.execution.stdin.close() {
                let _ = responder.send(answer);
            }
        }
        self.end_stdin_hold(number);
    }

    /// Refuses new submissions from now on, and cancels all unfinished executions.
    pub fn begin_shutdown(&mut self, mode: CancelMode, now: Timestamp) {
        self.is_shutting_down = true;
        let unfinished: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_committed)
            .filter(|(_, entry)| !entry.is_over())
            .map(|(number, _)| *number)
            .collect();
        for number in unfinished {
            self.cancel_without_answer(number, Canceller::Host, mode, now);
        }
    }
}

/// Returns the error for an action that needs a running execution.
#[must_use]
pub fn not_running(number: u64, status: escher_protocol::Status) -> ApiError {
    let message = format!("execution {number} is {status}");
    ApiError::new(ErrorCode::NOT_RUNNING, message)
}
