//! Changes that are not committed yet, and what follows from their commits.
//!
//! A change has a ticket and an action for its commit ([`OnCommit`]): answer a submitter, launch a command,
//! acknowledge a report. So the store has everything that escherd has acknowledged or begun, and the next escherd
//! finds it there.

use escher_launcher::ipc::wire::{Artifact, FIRST_ATTEMPT, ToShim};
use escher_protocol::message::{CancelOutcome, Event, Removed, Submitted};
use escher_protocol::{ApiError, ErrorCode, ExecutionId, Timestamp};
use tokio::sync::oneshot;

use super::{Effect, Entry, Scheduler};
use crate::store::{self, Change, CommitOutcome, Durability};

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
    /// Launch the execution.
    Launching { number: u64 },
    /// Answer the cancel.
    Cancel {
        reply: CancelReply,
        outcome: CancelOutcome,
    },
    /// The result is durable: answer the clients that wait for it.
    Finished {
        number: u64,
        reply: Option<(CancelReply, CancelOutcome)>,
    },
    /// Answer the removal, and delete the logs.
    Removed {
        numbers: Vec<u64>,
        reply: Option<oneshot::Sender<Result<Removed, ApiError>>>,
    },
}

/// The receiver of the answer to a cancel, if there is one.
pub(super) type CancelReply = Option<oneshot::Sender<Result<CancelOutcome, ApiError>>>;

/// The evidence of the end of an execution, until that is committed. It is removed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// There is none.
    None,
    /// The exit report, which its shim keeps.
    Report,
    /// An exit record.
    ExitRecord,
    /// The claim of a shim that was killed.
    Claim,
}

impl Scheduler {
    /// Records `change`, and does `on_commit` after its commit.
    pub(super) fn record(&mut self, change: Change, events: Vec<Event>, on_commit: OnCommit) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let entry = store::ChangeEntry {
            ticket,
            change,
            events: events.clone(),
        };
        self.effects.push(Effect::Record(Box::new(entry)));
        self.pending_changes
            .insert(ticket, PendingChange { on_commit, events });
    }

    /// Handles the outcomes of commits.
    pub fn on_commits(&mut self, outcomes: Vec<(u64, CommitOutcome)>, now: Timestamp) {
        for (ticket, outcome) in outcomes {
            if outcome == CommitOutcome::Delayed {
                self.on_commit_delayed(ticket);
            } else if let Some(pending) = self.pending_changes.remove(&ticket) {
                self.on_commit(pending, outcome, now);
            }
        }
        self.answer_commit_waiters();
    }

    fn on_commit(&mut self, pending: PendingChange, outcome: CommitOutcome, now: Timestamp) {
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
                return self.withdraw_submission(number, &Err(unavailable(&reason)));
            }
            (OnCommit::Submitted { number }, _) => {
                self.trace(number, "submission committed: answering the client");
                self.on_submission_committed(number, now);
            }
            (OnCommit::Launching { number }, _) => self.launch(number),
            (OnCommit::Cancel { reply, outcome }, _) => answer(reply, Ok(outcome)),
            (OnCommit::Finished { number, reply }, _) => {
                self.trace(number, "end committed: answering waiting clients");
                self.on_end_committed(number, now);
                if let Some((reply, outcome)) = reply {
                    answer(reply, Ok(outcome));
                }
            }
            (OnCommit::Removed { numbers, reply }, CommitOutcome::Removed(removed, logs)) => {
                for number in numbers {
                    self.drop_entry(number);
                }
                self.delete_logs(logs);
                answer(reply, Ok(removed));
            }
            (OnCommit::Removed { .. } | OnCommit::Nothing, _) => {}
        }
        for event in pending.events {
            self.events.publish(event);
        }
    }

    /// Handles a change that the store cannot write for now. What has begun continues, and clients do not wait for
    /// what is in progress already.
    fn on_commit_delayed(&mut self, ticket: u64) {
        match self
            .pending_changes
            .get_mut(&ticket)
            .map(|pending| &mut pending.on_commit)
        {
            // The shim already has the cancel.
            Some(OnCommit::Cancel { reply, outcome }) => answer(reply.take(), Ok(*outcome)),
            Some(OnCommit::Finished {
                number,
                reply: None,
            }) => {
                let number = *number;
                self.report_end_early(number);
            }
            Some(OnCommit::Finished {
                reply: Some((reply, _)),
                ..
            }) => {
                let reason = "the execution will not start, unless escherd is restarted before the cancel is written";
                answer(reply.take(), Err(unavailable(reason)));
            }
            Some(OnCommit::Removed { reply, .. }) => {
                let reason = "the execution will be removed when the store can be written again";
                answer(reply.take(), Err(unavailable(reason)));
            }
            _ => {}
        }
    }

    /// Reports an end before its commit, which may take long. Until the commit the exit report stays with the shim
    /// or in the exit record: that is enough where only a crash has to be survived.
    fn report_end_early(&mut self, number: u64) {
        let has_report =
            |entry: &Entry| matches!(entry.evidence, Evidence::Report | Evidence::ExitRecord);
        if self.settings.durability == Durability::Crash
            && self.entries.get(&number).is_some_and(has_report)
        {
            self.report_end(number);
        }
    }

    /// Returns a receiver that completes once all changes made so far are committed.
    pub fn once_committed(&mut self) -> oneshot::Receiver<()> {
        let (reply, committed) = oneshot::channel();
        self.commit_waiters.retain(|waiting| !waiting.1.is_closed());
        self.commit_waiters.push((self.last_ticket, reply));
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
        for (last, reply) in std::mem::take(&mut self.commit_waiters) {
            if last < first {
                let _ = reply.send(());
            } else {
                self.commit_waiters.push((last, reply));
            }
        }
    }

    /// Continues after the commit of an end: reports it, and removes its evidence.
    fn on_end_committed(&mut self, number: u64, now: Timestamp) {
        self.report_end(number);
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        let id = entry.execution.submission.id;
        let attempt = FIRST_ATTEMPT;
        match entry.evidence {
            Evidence::Report => self.send(number, ToShim::Recorded),
            Evidence::None => {}
            Evidence::ExitRecord => self.remove(Artifact::ExitRecord { attempt }, id),
            Evidence::Claim => {
                // A killed shim may have begun to write an exit record.
                self.remove(Artifact::ExitRecord { attempt }, id);
                self.remove(Artifact::Claim { attempt }, id);
            }
        }
        self.make_evictable(number, now);
    }

    pub(super) fn remove(&mut self, artifact: Artifact, id: ExecutionId) {
        self.effects.push(Effect::Remove(artifact, vec![id]));
    }

    pub(super) fn delete_logs(&mut self, ids: Vec<ExecutionId>) {
        if !ids.is_empty() {
            self.effects.push(Effect::Remove(Artifact::Log, ids));
        }
    }
}

fn answer<T>(reply: Option<oneshot::Sender<Result<T, ApiError>>>, result: Result<T, ApiError>) {
    if let Some(reply) = reply {
        let _ = reply.send(result);
    }
}

fn unavailable(reason: &str) -> ApiError {
    let message = format!("the store cannot be written: {reason}");
    ApiError::new(ErrorCode::STORE_UNAVAILABLE, message)
        .with_hint("check escherd's log, and whether the disk of its state directory is full")
}
