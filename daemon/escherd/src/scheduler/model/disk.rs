//! The store of the model.

use std::collections::{BTreeMap, HashMap, VecDeque};

use escher_protocol::message::{Event, Removed};
use escher_protocol::{ExecutionId, ExecutionRecord};

use crate::execution::Submission;
use crate::store::{
    Change, ChangeEntry, CommitOutcome, LoadedState, RequestDigest, UnfinishedExecution,
};

#[derive(Debug, Clone)]
struct Row {
    unfinished: UnfinishedExecution,
    digest: Option<RequestDigest>,
    end: Option<ExecutionRecord>,
}

/// Committed rows, and changes that wait for their commit.
#[derive(Debug, Default)]
pub(super) struct Disk {
    rows: BTreeMap<u64, Row>,
    events: Vec<Event>,
    missed_events: HashMap<u32, u64>,
    undeleted: Vec<ExecutionId>,
    last_number: u64,
    waiting: VecDeque<ChangeEntry>,
}

impl Disk {
    pub(super) fn write(&mut self, entry: ChangeEntry) {
        self.waiting.push_back(entry);
    }

    pub(super) fn waiting_changes(&self) -> usize {
        self.waiting.len()
    }

    /// Commits at most `count` of the waiting changes.
    pub(super) fn commit(&mut self, count: usize) -> Vec<(u64, CommitOutcome)> {
        let mut outcomes = Vec::new();
        for _ in 0..count {
            let Some(entry) = self.waiting.pop_front() else {
                break;
            };
            let outcome = self.apply(entry.change);
            let is_written = !matches!(outcome, CommitOutcome::KeyTaken { .. });
            if is_written {
                self.events.extend(entry.events);
            }
            for dropped in entry.dropped_events {
                self.events
                    .retain(|event| event.sequence != dropped.sequence);
                self.missed_events.insert(dropped.uid, dropped.sequence);
            }
            outcomes.push((entry.ticket, outcome));
        }
        outcomes
    }

    /// Fails to commit all waiting changes.
    pub(super) fn fail(&mut self) -> Vec<(u64, CommitOutcome)> {
        let mut outcomes = Vec::new();
        for entry in std::mem::take(&mut self.waiting) {
            if matches!(entry.change, Change::Submitted { .. }) {
                outcomes.push((entry.ticket, CommitOutcome::Refused("no room".to_owned())));
            } else {
                outcomes.push((entry.ticket, CommitOutcome::Delayed));
                self.waiting.push_back(entry);
            }
        }
        outcomes
    }

    /// Crashes after `committed` of the waiting changes were committed; the others are lost.
    pub(super) fn crash(&mut self, committed: usize) {
        self.commit(committed);
        self.waiting.clear();
    }

    fn apply(&mut self, change: Change) -> CommitOutcome {
        match change {
            Change::Submitted {
                submission,
                digest,
                is_admitted,
            } => return self.insert(*submission, digest, is_admitted),
            Change::Admitted { number } => self.change(number, |row| {
                row.is_admitted = true;
                row.launch_attempts += 1;
            }),
            Change::LaunchAttemptsCleared { numbers } => {
                for number in numbers {
                    self.change(number, |row| row.launch_attempts = 0);
                }
            }
            Change::Started { number, pid, at } => {
                self.change(number, |row| row.started = Some((pid, at)));
            }
            Change::CancelRequested {
                number,
                canceller: by,
                kill,
            } => {
                self.change(number, |row| {
                    row.cancel.get_or_insert((by, false)).1 |= kill;
                });
            }
            Change::Finished { record } => {
                let row = self.rows.get_mut(&record.number).expect("it was submitted");
                assert!(row.end.is_none(), "finished twice: {record:?}");
                row.end = Some(*record);
            }
            Change::Removed { numbers } => {
                let mut removed = Removed::default();
                let mut logs = Vec::new();
                for number in numbers {
                    if let Some(row) = self.rows.remove(&number) {
                        assert!(row.end.is_some(), "removed before its end");
                        removed.executions += 1;
                        logs.push(row.unfinished.submission.id);
                    }
                }
                self.undeleted.extend(&logs);
                return CommitOutcome::Removed(removed, logs);
            }
            Change::LogsRemoved { numbers } => {
                let mut logs = Vec::new();
                for number in numbers {
                    if let Some(row) = self.rows.get_mut(&number)
                        && let Some(record) = &mut row.end
                    {
                        record.log_removed = true;
                        logs.push(row.unfinished.submission.id);
                    }
                }
                self.undeleted.extend(&logs);
                return CommitOutcome::Removed(Removed::default(), logs);
            }
            Change::LogsDeleted { ids } => self.undeleted.retain(|id| !ids.contains(id)),
        }
        CommitOutcome::Committed
    }

    fn insert(
        &mut self,
        submission: Submission,
        digest: Option<RequestDigest>,
        is_admitted: bool,
    ) -> CommitOutcome {
        let key = &submission.request.key;
        let has_key = |row: &&Row| {
            let other = &row.unfinished.submission;
            other.request.key == *key && other.submitter == submission.submitter
        };
        let taken = self.rows.values().find(|row| key.is_some() && has_key(row));
        if let Some(row) = taken {
            return CommitOutcome::KeyTaken {
                id: row.unfinished.submission.id,
                number: row.unfinished.submission.number,
                is_same_request: row.digest == digest,
            };
        }
        let number = submission.number;
        assert!(
            number > self.last_number,
            "the number {number} is used again"
        );
        self.last_number = number;
        let unfinished = UnfinishedExecution {
            submission,
            is_admitted,
            launch_attempts: u32::from(is_admitted),
            started: None,
            cancel: None,
        };
        let row = Row {
            unfinished,
            digest,
            end: None,
        };
        self.rows.insert(number, row);
        CommitOutcome::Committed
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut UnfinishedExecution)) {
        let row = self.rows.get_mut(&number).expect("it was submitted");
        change(&mut row.unfinished);
    }

    pub(super) fn load(&self) -> LoadedState {
        let unfinished = self.rows.values().filter(|row| row.end.is_none());
        LoadedState {
            last_number: self.last_number,
            unfinished: unfinished.map(|row| row.unfinished.clone()).collect(),
            events: self.events.clone(),
            missed_events: self.missed_events.clone(),
            undeleted_logs: self.undeleted.clone(),
        }
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Returns how often the launch of an execution was begun, while escherd has only crashed.
    pub(super) fn launch_attempts(&self, id: ExecutionId) -> u32 {
        let mut rows = self.rows.values();
        let row = rows.find(|row| row.unfinished.submission.id == id);
        row.map_or(0, |row| row.unfinished.launch_attempts)
    }

    pub(super) fn undeleted(&self) -> usize {
        self.undeleted.len()
    }

    /// Returns whether the execution is stored, and its record if it has finished.
    pub(super) fn find(&self, id: ExecutionId) -> Option<Option<&ExecutionRecord>> {
        let mut rows = self.rows.values();
        let row = rows.find(|row| row.unfinished.submission.id == id)?;
        Some(row.end.as_ref())
    }

    /// Returns all executions, with their ends if they have finished.
    pub(super) fn all(&self) -> impl Iterator<Item = (ExecutionId, Option<&ExecutionRecord>)> {
        let rows = self.rows.values();
        rows.map(|row| (row.unfinished.submission.id, row.end.as_ref()))
    }
}
