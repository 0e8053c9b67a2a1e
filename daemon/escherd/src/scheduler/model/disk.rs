//! The store of the model.

use std::collections::{BTreeMap, HashMap, VecDeque};

use escher_protocol::message::{Event, Removed};
use escher_protocol::{CancelMode, ExecutionId, ExecutionRecord};

use crate::execution::{Extent, Submission};
use crate::scheduler::submit::size_and_digest;
use crate::store::{
    Change, ChangeEntry, CommitOutcome, LoadedState, RequestDigest, UnfinishedExecution,
};

#[derive(Debug, Clone)]
struct Row {
    unfinished: UnfinishedExecution,
    digest: Option<RequestDigest>,
    end: Option<ExecutionRecord>,
    /// Whether the submission cannot be read any more.
    is_damaged: bool,
}

impl Row {
    /// Returns what a start loads of an unfinished execution.
    fn loaded(&self) -> UnfinishedExecution {
        let mut loaded = self.unfinished.clone();
        (loaded.request_bytes, _) = size_and_digest(&mut loaded.submission.request);
        loaded.extent = loaded.submission.shorten_if_large();
        loaded
    }
}

impl Row {
    fn uid(&self) -> u32 {
        self.unfinished.submission.submitter.uid
    }

    /// Returns the bytes of its log, if it has finished and the log is kept.
    fn log_bytes(&self) -> u64 {
        let kept = self.end.as_ref().filter(|record| !record.log_removed);
        let outcome = kept.and_then(|record| record.outcome.as_ref());
        outcome.map_or(0, |outcome| outcome.output.log_bytes)
    }
}

/// Committed rows, and changes that wait for their commit.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Whether there is a journal, in which most changes are committed before the database has them.
    has_journal: bool,
    /// Ends that only the journal has: their tickets, their outcomes, and whose they are.
    journaled_ends: Vec<(u64, CommitOutcome, ExecutionId)>,
    rows: BTreeMap<u64, Row>,
    events: Vec<Event>,
    missed_events: HashMap<u32, u64>,
    undeleted: Vec<ExecutionId>,
    last_number: u64,
    waiting: VecDeque<ChangeEntry>,
}

impl Disk {
    pub(super) fn new(has_journal: bool) -> Self {
        Disk {
            has_journal,
            ..Disk::default()
        }
    }

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
            let is_journaled = self.has_journal && self.is_independent(&entry);
            if !is_journaled {
                outcomes.extend(self.apply_journal());
            }
            let ended = match &entry.change {
                Change::Finished { record } => Some(record.id),
                _ => None,
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
            if is_journaled {
                let log_bytes = match outcome {
                    CommitOutcome::Finished { log_bytes } => log_bytes,
                    _ => 0,
                };
                if let Some(id) = ended {
                    self.journaled_ends.push((entry.ticket, outcome, id));
                }
                outcomes.push((entry.ticket, CommitOutcome::Journaled { log_bytes }));
            } else {
                outcomes.push((entry.ticket, outcome));
            }
        }
        outcomes
    }

    /// Returns whether the outcome of a change does not depend on the database. A new key may seem to be a known one.
    fn is_independent(&self, entry: &ChangeEntry) -> bool {
        match &entry.change {
            Change::Submitted { submission, .. } => {
                let key = &submission.request.key;
                let seems_known = entry.ticket.is_multiple_of(3);
                key.is_none() || (!seems_known && self.find_key(submission).is_none())
            }
            Change::Admitted {
                reads_submission, ..
            } => !reads_submission,
            Change::Restored { .. } | Change::Removed { .. } | Change::LogsRemoved { .. } => false,
            _ => true,
        }
    }

    /// Has the database take what only the journal has.
    pub(super) fn apply_journal(&mut self) -> Vec<(u64, CommitOutcome)> {
        let ends = self.journaled_ends.drain(..);
        ends.map(|(ticket, outcome, _)| (ticket, outcome)).collect()
    }

    /// Returns the executions whose ends only the journal has.
    pub(super) fn journaled_ends(&self) -> impl Iterator<Item = ExecutionId> {
        self.journaled_ends.iter().map(|(_, _, id)| *id)
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
        // The next escherd begins with what the journal has.
        self.journaled_ends.clear();
    }

    fn apply(&mut self, change: Change) -> CommitOutcome {
        match change {
            Change::Submitted {
                submission,
                digest,
                is_admitted,
            } => return self.insert(*submission, digest, is_admitted),
            Change::Restored { submission, digest } => {
                return self.insert(*submission, digest, true);
            }
            Change::Admitted {
                number,
                reads_submission,
            } => {
                self.change(number, |row| {
                    row.is_admitted = true;
                    row.launch_attempts += 1;
                });
                if reads_submission {
                    let submission = self.submission(number).cloned();
                    return CommitOutcome::Admitted(submission.map(Box::new));
                }
            }
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
                mode,
            } => {
                self.change(number, |row| {
                    let cancel = row.cancel.get_or_insert((by, mode));
                    if mode == CancelMode::Kill {
                        cancel.1 = mode;
                    }
                });
            }
            Change::Finished { mut record } => {
                if record.command_cut
                    && let Some(submission) = self.submission(record.number)
                {
                    record.command = submission.request.command.clone();
                    record.command_cut = false;
                }
                let row = self.rows.get_mut(&record.number).expect("it was submitted");
                assert!(row.end.is_none(), "finished twice: {record:?}");
                row.unfinished
                    .submission
                    .request
                    .key
                    .clone_from(&record.key);
                row.end = Some(*record);
                let log_bytes = row.log_bytes();
                return CommitOutcome::Finished { log_bytes };
            }
            Change::Removed { numbers } => {
                let mut removed = Removed::default();
                let (mut logs, mut freed) = (Vec::new(), BTreeMap::new());
                for number in numbers {
                    if let Some(row) = self.rows.remove(&number) {
                        assert!(row.end.is_some(), "removed before its end");
                        removed.executions += 1;
                        logs.push(row.unfinished.submission.id);
                        *freed.entry(row.uid()).or_default() += row.log_bytes();
                    }
                }
                self.undeleted.extend(&logs);
                return CommitOutcome::Removed {
                    removed,
                    logs,
                    freed_log_bytes: freed,
                };
            }
            Change::LogsRemoved { numbers } => {
                let (mut logs, mut freed) = (Vec::new(), BTreeMap::new());
                for number in numbers {
                    let Some(row) = self.rows.get_mut(&number) else {
                        continue;
                    };
                    let log_bytes = row.log_bytes();
                    if let Some(record) = &mut row.end {
                        record.log_removed = true;
                        logs.push(row.unfinished.submission.id);
                        *freed.entry(row.uid()).or_default() += log_bytes;
                    }
                }
                self.undeleted.extend(&logs);
                return CommitOutcome::Removed {
                    removed: Removed::default(),
                    logs,
                    freed_log_bytes: freed,
                };
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
        if let Some(row) = self.find_key(&submission) {
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
            extent: Extent::Whole,
            request_bytes: 0,
            digest,
            is_admitted,
            launch_attempts: u32::from(is_admitted),
            started: None,
            cancel: None,
        };
        let row = Row {
            unfinished,
            digest,
            end: None,
            is_damaged: false,
        };
        self.rows.insert(number, row);
        CommitOutcome::Committed
    }

    /// Returns the execution that has the key of `submission`.
    fn find_key(&self, submission: &Submission) -> Option<&Row> {
        let key = submission.request.key.as_ref()?;
        self.rows.values().find(|row| {
            let other = &row.unfinished.submission;
            other.request.key.as_ref() == Some(key) && other.submitter == submission.submitter
        })
    }

    /// Returns the submission of an unfinished execution, unless it is damaged.
    fn submission(&self, number: u64) -> Option<&Submission> {
        let row = self.rows.get(&number).filter(|row| !row.is_damaged);
        row.map(|row| &row.unfinished.submission)
    }

    /// Damages the submission of one of the executions.
    pub(super) fn damage(&mut self, which: usize) {
        let count = self.rows.len().max(1);
        if let Some(row) = self.rows.values_mut().nth(which % count) {
            row.is_damaged = true;
        }
    }

    pub(super) fn is_damaged(&self, id: ExecutionId) -> bool {
        let mut rows = self.rows.values();
        rows.any(|row| row.is_damaged && row.unfinished.submission.id == id)
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut UnfinishedExecution)) {
        let row = self.rows.get_mut(&number).expect("it was submitted");
        change(&mut row.unfinished);
    }

    pub(super) fn load(&self) -> LoadedState {
        let unfinished = self.rows.values().filter(|row| row.end.is_none());
        LoadedState {
            last_number: self.last_number,
            unfinished: unfinished.map(Row::loaded).collect(),
            events: self.events.clone(),
            missed_events: self.missed_events.clone(),
            undeleted_logs: self.undeleted.clone(),
            log_bytes: self.log_bytes(),
        }
    }

    /// Returns the bytes of the finished logs of each user.
    pub(super) fn log_bytes(&self) -> BTreeMap<u32, u64> {
        let mut of_users = BTreeMap::new();
        for row in self.rows.values() {
            *of_users.entry(row.uid()).or_default() += row.log_bytes();
        }
        of_users
    }

    /// Returns the submitter of an execution whose end is not committed.
    pub(super) fn unfinished_uid(&self, id: ExecutionId) -> Option<u32> {
        let mut rows = self.rows.values();
        let row = rows.find(|row| row.unfinished.submission.id == id && row.end.is_none())?;
        Some(row.uid())
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
