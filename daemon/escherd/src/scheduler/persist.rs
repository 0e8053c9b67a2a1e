//! Changes on their way to the disk, and what waits for them.
//!
//! A change is given a ticket, and with it goes what is to be done once it is on disk ([`After`]): a
//! submitter is told, a command goes to a shim, a shim may forget its report. So whatever escherd has said or
//! begun, the next one knows of.

use escher_launcher::ipc::wire::{Artifact, FIRST_ATTEMPT, ToShim};
use escher_protocol::message::{CancelOutcome, Event, Removed, Submitted};
use escher_protocol::{ApiError, ErrorCode, ExecutionId, Timestamp};
use tokio::sync::oneshot;

use super::{Effect, Entry, Scheduler};
use crate::store::{self, Change, CommitOutcome, Durability};

/// What waits for a change, and the events that are told with it.
#[derive(Debug)]
pub(super) struct After {
    what: Then,
    events: Vec<Event>,
}

/// What is to be done once a change is on disk.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing but telling the events.
    Nothing,
    /// Its submitters are told; it goes to a shim, or waits for its turn.
    Submitted { number: u64 },
    /// It goes to a shim.
    Launching { number: u64 },
    /// Whoever asked for its end is told.
    Cancel {
        reply: CancelReply,
        outcome: CancelOutcome,
    },
    /// Its end is safe; who waits is told, if that waited for it.
    Finished {
        number: u64,
        reply: Option<(CancelReply, CancelOutcome)>,
    },
    /// Whoever had them removed is told, and their logs go.
    Removed {
        numbers: Vec<u64>,
        reply: Option<oneshot::Sender<Result<Removed, ApiError>>>,
    },
}

/// Where the answer to a cancel goes.
pub(super) type CancelReply = Option<oneshot::Sender<Result<CancelOutcome, ApiError>>>;

/// What testifies to the end of an execution while that is not on disk. It is removed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nothing.
    None,
    /// The report that its shim keeps.
    Report,
    /// An exit record.
    ExitRecord,
    /// The socket of a shim that was killed.
    Claim,
}

impl Scheduler {
    /// Has `change` written down, and `then` done once it is.
    pub(super) fn record(&mut self, change: Change, events: Vec<Event>, then: Then) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let entry = store::ChangeEntry {
            ticket,
            change,
            events: events.clone(),
        };
        self.effects.push(Effect::Record(Box::new(entry)));
        self.unsettled.insert(ticket, After { what: then, events });
    }

    /// What the store has done.
    pub fn settle(&mut self, outcomes: Vec<(u64, CommitOutcome)>, now: Timestamp) {
        for (ticket, verdict) in outcomes {
            if verdict == CommitOutcome::Delayed {
                self.delayed(ticket);
            } else if let Some(after) = self.unsettled.remove(&ticket) {
                self.settled(after, verdict, now);
            }
        }
        self.tell_settled();
    }

    fn settled(&mut self, after: After, verdict: CommitOutcome, now: Timestamp) {
        match (after.what, verdict) {
            (
                Then::Submitted { number },
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
                return self.key_taken(number, existing, is_same_request);
            }
            (Then::Submitted { number }, CommitOutcome::Refused(reason)) => {
                return self.not_submitted(number, &Err(unavailable(&reason)));
            }
            (Then::Submitted { number }, _) => self.submitted(number, now),
            (Then::Launching { number }, _) => self.launch(number),
            (Then::Cancel { reply, outcome }, _) => answer(reply, Ok(outcome)),
            (Then::Finished { number, reply }, _) => {
                self.end_is_recorded(number, now);
                if let Some((reply, outcome)) = reply {
                    answer(reply, Ok(outcome));
                }
            }
            (Then::Removed { numbers, reply }, CommitOutcome::Removed(forgotten, logs)) => {
                for number in numbers {
                    self.drop_entry(number);
                }
                self.delete_logs(logs);
                answer(reply, Ok(forgotten));
            }
            (Then::Removed { .. } | Then::Nothing, _) => {}
        }
        for event in after.events {
            self.events.publish(event);
        }
    }

    /// The store cannot write for now. What has begun goes on all the same, and nobody is kept waiting for
    /// what is under way already.
    fn delayed(&mut self, ticket: u64) {
        match self.unsettled.get_mut(&ticket).map(|after| &mut after.what) {
            // Its shim was told at once.
            Some(Then::Cancel { reply, outcome }) => answer(reply.take(), Ok(*outcome)),
            Some(Then::Finished {
                number,
                reply: None,
            }) => {
                let number = *number;
                self.tell_end_early(number);
            }
            Some(Then::Finished {
                reply: Some((reply, _)),
                ..
            }) => {
                let reason =
                    "it will not start unless escherd is started anew before that is written down";
                answer(reply.take(), Err(unavailable(reason)));
            }
            Some(Then::Removed { reply, .. }) => {
                let reason = "it is removed as soon as that can be written down";
                answer(reply.take(), Err(unavailable(reason)));
            }
            _ => {}
        }
    }

    /// The end of an execution may take long to be on disk. Its report stays with its shim, or in the exit
    /// record, until it is: if a crash is all that has to be outlived, whoever waits need not wait longer.
    fn tell_end_early(&mut self, number: u64) {
        let has_witness =
            |entry: &Entry| matches!(entry.evidence, Evidence::Report | Evidence::ExitRecord);
        if self.settings.durability == Durability::Crash
            && self.entries.get(&number).is_some_and(has_witness)
        {
            self.tell_end(number);
        }
    }

    /// Tells once everything that has changed so far is on disk.
    pub fn once_committed(&mut self) -> oneshot::Receiver<()> {
        let (reply, settled) = oneshot::channel();
        self.settling.retain(|waiting| !waiting.1.is_closed());
        self.settling.push((self.last_ticket, reply));
        self.tell_settled();
        settled
    }

    fn tell_settled(&mut self) {
        if self.settling.is_empty() {
            return;
        }
        let first = self.unsettled.keys().min().copied().unwrap_or(u64::MAX);
        for (last, reply) in std::mem::take(&mut self.settling) {
            if last < first {
                let _ = reply.send(());
            } else {
                self.settling.push((last, reply));
            }
        }
    }

    /// The end of an execution is on disk: what testified to it may go.
    fn end_is_recorded(&mut self, number: u64, now: Timestamp) {
        self.tell_end(number);
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
                // With it what it may have begun to write.
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
        .with_hint("see escherd's log, and whether the disk of its state directory is full")
}
