//! The journal as the intake, the writer and the readers share it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ChangeJournal;
use crate::store::ChangeEntry;
use crate::store::number_mark::LEAST_AHEAD;
use crate::store::queued_entry::QueuedEntry;

/// Entries in the backlog with which the database waits no longer.
const MAX_BACKLOG: usize = 512;

/// Changes that the database may lack, while it writes what it has taken of them. Further ones wait for it, as they have to
/// where it is the slower one: what it lacks is in memory too.
const MAX_LAG: usize = 2 * MAX_BACKLOG;

/// Each of these changes may be a submission, whose number is not in the database.
const _: () = assert!((MAX_LAG as u64) < LEAST_AHEAD);

/// A journal, and how far the database is behind it.
#[derive(Debug)]
pub(in crate::store) struct SharedJournal {
    journal: Mutex<ChangeJournal>,
    /// The entries that the writer has not taken yet.
    backlog: Mutex<Vec<QueuedEntry>>,
    appended: AtomicU64,
    applied: AtomicU64,
    /// Whether the database cannot be written: then nothing more is to be acknowledged that it would have to take.
    is_suspended: AtomicBool,
    has_failed: AtomicBool,
}

/// How the backlog has grown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct BacklogGrowth {
    /// How many entries were there.
    before: usize,
    /// How many were added.
    pub(in crate::store) added: usize,
}

impl BacklogGrowth {
    /// Returns whether the writer has to know: a wake-up costs more than a change, so it is woken for the first entry,
    /// and when it is to wait no longer.
    pub(in crate::store) fn concerns_writer(self) -> bool {
        let after = self.before + self.added;
        self.added > 0 && (self.before == 0 || (self.before < MAX_BACKLOG && after >= MAX_BACKLOG))
    }
}

impl SharedJournal {
    /// Shares a journal that is empty.
    pub(in crate::store) fn new(journal: ChangeJournal) -> Self {
        SharedJournal {
            appended: AtomicU64::new(journal.last_sequence),
            applied: AtomicU64::new(journal.last_sequence),
            journal: Mutex::new(journal),
            backlog: Mutex::default(),
            is_suspended: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Appends the first `count` of `entries`, or those before the first one that is too large, and moves them to the
    /// backlog; none beyond [`MAX_LAG`]. Nothing is appended while the journal is suspended or cannot be written, which
    /// is logged.
    pub(in crate::store) fn append(
        &self,
        entries: &mut Vec<ChangeEntry>,
        count: usize,
    ) -> BacklogGrowth {
        let first = entries.get(..count.min(self.room())).unwrap_or_default();
        if first.is_empty() || self.is_suspended.load(Ordering::Relaxed) {
            return BacklogGrowth::default();
        }
        let result = self.lock().append(first);
        self.log_failure(result.as_ref().err());
        let appended = result.unwrap_or_default();
        if appended.count == 0 {
            return BacklogGrowth::default();
        }
        let sequences = appended.first_sequence..;
        let queued = entries
            .drain(..appended.count)
            .zip(sequences)
            .map(|(entry, sequence)| QueuedEntry {
                entry,
                sequence: Some(sequence),
            });
        let last = appended.first_sequence + appended.count as u64 - 1;
        let mut backlog = self.backlog();
        let before = backlog.len();
        backlog.extend(queued);
        self.appended.store(last, Ordering::Release);
        BacklogGrowth {
            before,
            added: appended.count,
        }
    }

    /// Returns whether the backlog is as long as it should become.
    pub(in crate::store) fn has_full_backlog(&self) -> bool {
        self.backlog().len() >= MAX_BACKLOG
    }

    /// Takes the entries that the database has to get.
    pub(in crate::store) fn take_backlog(&self) -> Vec<QueuedEntry> {
        std::mem::take(&mut *self.backlog())
    }

    /// Returns whether the database lacks a change.
    pub(in crate::store) fn is_ahead(&self) -> bool {
        self.lag() > 0
    }

    /// Returns how many changes the database lacks.
    fn lag(&self) -> u64 {
        let appended = self.appended.load(Ordering::Acquire);
        appended.saturating_sub(self.applied.load(Ordering::Acquire))
    }

    /// Returns how many changes may be appended.
    fn room(&self) -> usize {
        MAX_LAG.saturating_sub(usize::try_from(self.lag()).unwrap_or(MAX_LAG))
    }

    /// Notes that the database has the changes up to `sequence`.
    pub(in crate::store) fn on_applied(&self, sequence: u64) {
        self.applied.store(sequence, Ordering::Release);
        let result = self.lock().on_applied(sequence);
        self.log_failure(result.as_ref().err());
    }

    /// Suspends the journal while the database cannot be written.
    pub(in crate::store) fn suspend(&self, is_suspended: bool) {
        self.is_suspended.store(is_suspended, Ordering::Relaxed);
    }

    /// Logs the first of several failures, and their end.
    fn log_failure(&self, error: Option<&io::Error>) {
        let had_failed = self.has_failed.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !had_failed => tracing::error!(
                "the journal cannot be written: {error}. Changes wait for the database"
            ),
            None if had_failed => tracing::info!("the journal can be written again"),
            _ => {}
        }
    }

    fn backlog(&self) -> MutexGuard<'_, Vec<QueuedEntry>> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, ChangeJournal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Change;

    fn entries(count: usize) -> Vec<ChangeEntry> {
        let entry = |ticket| ChangeEntry {
            ticket,
            change: Change::LogsDeleted { ids: Vec::new() },
            events: Vec::new(),
            dropped_events: Vec::new(),
        };
        (0..count as u64).map(entry).collect()
    }

    #[test]
    fn the_journal_takes_no_more_than_the_database_may_lack() {
        let dir = tempfile::tempdir().unwrap();
        let journal = ChangeJournal::create(&dir.path().join("escher.db"), [7; 16], 0).unwrap();
        let journal = SharedJournal::new(journal);
        let append = |count| {
            let mut offered = entries(count);
            let growth = journal.append(&mut offered, count);
            assert_eq!(growth.added + offered.len(), count);
            (growth.added, growth.concerns_writer())
        };
        assert_eq!(append(1), (1, true), "the first");
        assert_eq!(append(MAX_BACKLOG - 2), (MAX_BACKLOG - 2, false));
        assert_eq!(append(1), (1, true), "it is full");
        assert_eq!(append(MAX_BACKLOG - 1), (MAX_BACKLOG - 1, false));
        assert_eq!(append(2), (1, false), "the last");
        assert_eq!(append(1), (0, false));
        assert_eq!(journal.take_backlog().len(), MAX_LAG);
        assert_eq!(append(1), (0, false), "the database does not have them yet");
        journal.on_applied(3);
        assert_eq!(append(4), (3, true));
    }
}
