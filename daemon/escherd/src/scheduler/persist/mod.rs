//! Changes that are not committed yet, and what follows from their commits.
//!
//! A change has a ticket and an action for its commit ([`OnCommit`]): answer a submitter, launch a command,
//! acknowledge a report. So the store has everything that escherd has acknowledged or begun, and the next escherd
//! finds it there.

use escher_protocol::message::{CancelAnswer, Event, Removed, Submitted};
use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::oneshot;

use super::{Effect, Entry, Scheduler};
use crate::execution::Transition;
use crate::store::{self, Change, CommitOutcome};

/// A change that is not committed yet: its action, and the events to publish with it.
#[derive(Debug)]
pub(super) struct PendingChange {
    on_commit: OnCommit,
    events: Vec<Event>,
}

/// What to do after the commit of a change.
#[derive(Debug)]
pub(super) enum OnCommit {
    /// Publish the events only.
    Nothing,
    /// Answer the submitters, and launch or queue the execution.
    Submitted { number: u64 },
    /// Launch the execution, or fail it if its request cannot be read.
    Admitted { number: u64 },
    /// Answer the cancel.
    Cancel {
        number: u64,
        responder: CancelResponder,
        answer: CancelAnswer,
        /// Whether the store cannot write it for now.
        is_delayed: bool,
    },
    /// The result is durable: answer the clients that wait for it, and the cancel that ended it in the queue.
    Finished {
        number: u64,
        cancel: Option<(CancelResponder, CancelAnswer)>,
    },
    /// Answer the removal of executions or of their logs, and delete the logs.
    Removed {
        numbers: Vec<u64>,
        responder: Option<oneshot::Sender<Result<Removed, ApiError>>>,
    },
}

impl OnCommit {
    /// Creates the action that answers a cancel of a launched execution, or of one about to be launched.
    pub(super) fn cancel(number: u64, responder: CancelResponder, answer: CancelAnswer) -> Self {
        OnCommit::Cancel {
            number,
            responder,
            answer,
            is_delayed: false,
        }
    }
}

/// Sends the answer to a cancel, if a client waits for it.
pub(super) type CancelResponder = Option<oneshot::Sender<Result<CancelAnswer, ApiError>>>;

impl Scheduler {
    /// Has the store commit `change`, and does `on_commit` afterwards.
    pub(super) fn commit(&mut self, change: Change, events: Vec<Event>, on_commit: OnCommit) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        // A submission may be refused, and takes nothing else with it.
        let dropped_events = match change {
            Change::Submitted { .. } | Change::Restored { .. } => Vec::new(),
            _ => self.events.take_dropped(),
        };
        let entry = store::ChangeEntry {
            ticket,
            change,
            events: events.clone(),
            dropped_events,
        };
        self.effects.push(Effect::Commit(Box::new(entry)));
        self.pending_changes
            .insert(ticket, PendingChange { on_commit, events });
    }

    /// Handles the outcomes of commits.
    pub fn on_commits(&mut self, outcomes: Vec<(u64, CommitOutcome)>, now: Timestamp) {
        for (ticket, outcome) in outcomes {
            if outcome == CommitOutcome::Delayed {
                self.on_commit_delayed(ticket);
            } else if let Some(pending) = self.pending_changes.remove(&ticket) {
                self.on_commit(ticket, pending, outcome, now);
            } else if let Some(number) = self.journaled_ends.remove(&ticket) {
                self.on_end_in_database(number, now);
            }
        }
        self.answer_commit_waiters();
    }

    fn on_commit(
        &mut self,
        ticket: u64,
        pending: PendingChange,
        outcome: CommitOutcome,
        now: Timestamp,
    ) {
        match (pending.on_commit, outcome) {
            (
                OnCommit::Submitted { number },
                CommitOutcome::KeyTaken {
                    id,
                    number: known,
                    is_same_request,
                },
            ) => {
                let existing = Submitted {
                    id,
                    number: known,
                    existing: true,
                };
                return self.on_key_taken(number, existing, is_same_request);
            }
            (OnCommit::Submitted { number }, CommitOutcome::Refused(reason)) => {
                return self.discard_submission(number, &Err(refused(&reason)));
            }
            (OnCommit::Submitted { number }, _) => {
                self.log_step(number, "submission committed: answering the client");
                self.on_submission_committed(number, now);
            }
            // It was withdrawn meanwhile.
            (OnCommit::Admitted { number }, _) if self.is_over(number) => {}
            (OnCommit::Admitted { number }, CommitOutcome::Admitted(Some(submission))) => {
                self.launch(number, Some(&submission));
            }
            (OnCommit::Admitted { number }, CommitOutcome::Admitted(None)) => {
                self.finish_unlaunched(number, Transition::RequestUnreadable { at: now }, now);
            }
            (OnCommit::Admitted { number }, _) => self.launch(number, None),
            (
                OnCommit::Cancel {
                    responder, answer, ..
                },
                _,
            ) => respond(responder, Ok(answer)),
            (OnCommit::Finished { number, cancel }, outcome) => {
                self.log_step(number, "end committed: answering waiting clients");
                self.on_end_committed(number);
                self.note_finished_log(number, &outcome);
                if matches!(outcome, CommitOutcome::Journaled { .. }) {
                    self.journaled_ends.insert(ticket, number);
                } else {
                    self.on_end_in_database(number, now);
                }
                if let Some((responder, answer)) = cancel {
                    respond(responder, Ok(answer));
                }
            }
            (
                OnCommit::Removed { numbers, responder },
                CommitOutcome::Removed {
                    removed,
                    logs,
                    freed_log_bytes,
                },
            ) => {
                for (uid, bytes) in freed_log_bytes {
                    self.log_budgets.remove(uid, bytes);
                }
                for number in numbers {
                    self.drop_entry(number);
                }
                self.delete_logs(logs);
                respond(responder, Ok(removed));
            }
            (OnCommit::Removed { .. } | OnCommit::Nothing, _) => {}
        }
        for event in pending.events {
            self.events.publish(event);
        }
    }

    /// Continues when the database has the end of an execution: memory need not have it any longer.
    fn on_end_in_database(&mut self, number: u64, now: Timestamp) {
        if self.entries.contains_key(&number) {
            self.make_evictable(number, now);
        }
    }

    /// Replaces the budget of a log by its size.
    fn note_finished_log(&mut self, number: u64, outcome: &CommitOutcome) {
        let log_bytes = match outcome {
            CommitOutcome::Finished { log_bytes } | CommitOutcome::Journaled { log_bytes } => {
                *log_bytes
            }
            // The store does not know the execution.
            _ => 0,
        };
        if let Some(entry) = self.entries.get(&number) {
            self.log_budgets
                .finish(number, entry.submitter().uid, log_bytes);
        }
    }

    /// Handles a change that the store cannot write for now. What has begun continues, and a client whose request a shim
    /// carries out already is answered without the commit.
    fn on_commit_delayed(&mut self, ticket: u64) {
        let Some(pending) = self.pending_changes.get_mut(&ticket) else {
            return;
        };
        match &mut pending.on_commit {
            OnCommit::Cancel {
                number, is_delayed, ..
            } => {
                let number = *number;
                *is_delayed = true;
                // Until a shim of an earlier escherd has reported itself the cancel is in memory alone.
                let is_sent = |entry: &Entry| entry.launch_phase.accepts_messages();
                if self.entries.get(&number).is_some_and(is_sent) {
                    self.answer_delayed_cancels(number);
                }
            }
            OnCommit::Finished {
                number,
                cancel: None,
            } => {
                let number = *number;
                self.report_end_early(number);
            }
            OnCommit::Finished {
                cancel: Some((responder, _)),
                ..
            } => {
                let consequence = "the execution will not start, unless escherd is restarted before the cancel is written";
                respond(responder.take(), Err(not_yet_written(consequence)));
            }
            OnCommit::Removed { responder, .. } => {
                let consequence =
                    "the execution will be removed when the store can be written again";
                respond(responder.take(), Err(not_yet_written(consequence)));
            }
            OnCommit::Nothing | OnCommit::Submitted { .. } | OnCommit::Admitted { .. } => {}
        }
    }

    /// Answers the delayed cancels of an execution, because its shim is there to carry them out.
    pub(super) fn answer_delayed_cancels(&mut self, number: u64) {
        for pending in self.pending_changes.values_mut() {
            if let OnCommit::Cancel {
                number: of,
                responder,
                answer,
                is_delayed: true,
            } = &mut pending.on_commit
                && *of == number
            {
                respond(responder.take(), Ok(*answer));
            }
        }
    }

    /// Returns a receiver that completes once all changes made so far are committed.
    pub fn once_committed(&mut self) -> oneshot::Receiver<()> {
        let (responder, committed) = oneshot::channel();
        self.commit_waiters.retain(|waiting| !waiting.1.is_closed());
        self.commit_waiters.push((self.last_ticket, responder));
        self.answer_commit_waiters();
        committed
    }

    fn answer_commit_waiters(&mut self) {
        if self.commit_waiters.is_empty() {
            return;
        }
        let first = self
            .pending_changes
            .keys()
            .min()
            .copied()
            .unwrap_or(u64::MAX);
        for (last, responder) in std::mem::take(&mut self.commit_waiters) {
            if last < first {
                let _ = responder.send(());
            } else {
                self.commit_waiters.push((last, responder));
            }
        }
    }
}

/// Sends `answer` to a client, if one waits for it.
pub(super) fn respond<T>(
    responder: Option<oneshot::Sender<Result<T, ApiError>>>,
    answer: Result<T, ApiError>,
) {
    if let Some(responder) = responder {
        let _ = responder.send(answer);
    }
}

/// Returns the error for a submission that the store has refused.
fn refused(reason: &str) -> ApiError {
    unavailable(format!("the store cannot be written: {reason}"))
}

/// Returns the error for a change that is written later.
fn not_yet_written(consequence: &str) -> ApiError {
    unavailable(format!("the store cannot be written now; {consequence}"))
}

fn unavailable(message: String) -> ApiError {
    ApiError::new(ErrorCode::STORE_UNAVAILABLE, message)
        .with_hint("check escherd's log, and whether the disk of its state directory is full")
}

#[cfg(test)]
mod tests;
