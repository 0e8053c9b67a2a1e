//! The way of changes into the store: most are durable once they are in the journal, the others wait for the database.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::disk_reserve::DiskReserve;
use super::finish::kept_log_bytes;
use super::journal::SharedJournal;
use super::known_keys::KnownKeys;
use super::writer::WriterMessage;
use super::{Change, ChangeEntry, CommitOutcome};

/// Takes the changes of the scheduler. It belongs to the thread of the scheduler, which therefore waits for no other one
/// before it answers or launches.
#[derive(Debug)]
pub struct Intake {
    writer: Sender<WriterMessage>,
    journal: Option<Arc<SharedJournal>>,
    known_keys: Arc<KnownKeys>,
    disk_reserve: DiskReserve,
    /// The tickets of the changes whose outcomes come from the database. While there are any, all later changes wait
    /// for it too: outcomes come in the order of the changes.
    awaited: HashSet<u64>,
}

impl Intake {
    pub(super) fn new(
        writer: Sender<WriterMessage>,
        journal: Option<Arc<SharedJournal>>,
        known_keys: Arc<KnownKeys>,
        disk_reserve: DiskReserve,
    ) -> Self {
        Intake {
            writer,
            journal,
            known_keys,
            disk_reserve,
            awaited: HashSet::new(),
        }
    }

    /// Creates an intake whose changes go nowhere.
    #[cfg(test)]
    pub(crate) fn into_nothing() -> Self {
        let (writer, _) = std::sync::mpsc::channel();
        let reserve = DiskReserve::new("/".into(), Arc::default());
        Intake::new(writer, None, Arc::new(KnownKeys::new()), reserve)
    }

    /// Writes `entries` in this order, after all earlier ones. Returns the outcomes of the first ones, which are durable
    /// now; those of the others follow.
    #[must_use]
    pub fn write(&mut self, mut entries: Vec<ChangeEntry>) -> Vec<(u64, CommitOutcome)> {
        let count = self.count_of_independent(&entries);
        let mut outcomes: Vec<_> = entries.iter().take(count).map(journaled).collect();
        let appended = self.append(&mut entries, count);
        outcomes.truncate(appended);
        if !entries.is_empty() {
            self.awaited
                .extend(entries.iter().map(|entry| entry.ticket));
            self.send(WriterMessage::Write(entries));
        }
        outcomes
    }

    /// Moves the first `count` of `entries` into the journal, as far as that takes them, and returns how many that are.
    fn append(&self, entries: &mut Vec<ChangeEntry>, count: usize) -> usize {
        let Some(journal) = &self.journal else {
            return 0;
        };
        let growth = journal.append(entries, count);
        if growth.concerns_writer() {
            self.send(WriterMessage::Backlog);
        }
        growth.added
    }

    fn send(&self, message: WriterMessage) {
        if self.writer.send(message).is_err() {
            tracing::error!("a change is lost: the store is closed");
        }
    }

    /// Notes outcomes from the database, which the scheduler gets now.
    pub fn note_outcomes(&mut self, outcomes: &[(u64, CommitOutcome)]) {
        for (ticket, outcome) in outcomes {
            if *outcome != CommitOutcome::Delayed {
                self.awaited.remove(ticket);
            }
        }
    }

    /// Returns how many of the first of `entries` have outcomes that do not depend on the database.
    fn count_of_independent(&mut self, entries: &[ChangeEntry]) -> usize {
        // Every key is added, also of those that wait.
        let is_new_key: Vec<bool> = entries.iter().map(|entry| self.is_new_key(entry)).collect();
        if self.journal.is_none() || !self.awaited.is_empty() {
            return 0;
        }
        let has_submission = entries.iter().any(ChangeEntry::is_submission);
        let may_submit = !has_submission || !self.disk_reserve.is_short();
        let is_independent = |(entry, is_new_key): &(&ChangeEntry, bool)| match entry.change {
            Change::Submitted { .. } => may_submit && *is_new_key,
            Change::Admitted {
                reads_submission, ..
            } => !reads_submission,
            Change::LaunchAttemptsCleared { .. }
            | Change::Started { .. }
            | Change::CancelRequested { .. }
            | Change::Finished { .. }
            | Change::LogsDeleted { .. } => true,
            Change::Restored { .. } | Change::Removed { .. } | Change::LogsRemoved { .. } => false,
        };
        let with_keys = entries.iter().zip(is_new_key);
        with_keys.take_while(is_independent).count()
    }

    /// Adds the key of a submission to the known ones. Returns whether it is new, or there is none.
    fn is_new_key(&self, entry: &ChangeEntry) -> bool {
        let (Change::Submitted { submission, .. } | Change::Restored { submission, .. }) =
            &entry.change
        else {
            return true;
        };
        let key = submission.request.key.as_deref();
        key.is_none_or(|key| !self.known_keys.add(&submission.submitter, key))
    }
}

/// Returns the outcome of an entry that is in the journal.
fn journaled(entry: &ChangeEntry) -> (u64, CommitOutcome) {
    let log_bytes = match &entry.change {
        Change::Finished { record } => kept_log_bytes(record),
        _ => 0,
    };
    (entry.ticket, CommitOutcome::Journaled { log_bytes })
}
