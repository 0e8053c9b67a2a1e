//! An entry on its way to the database.

use super::ChangeEntry;

/// An entry that the database does not have yet.
#[derive(Debug)]
pub(super) struct QueuedEntry {
    pub(super) entry: ChangeEntry,
    /// Its number in the journal; `None`: it is not there, and its outcome is awaited.
    pub(super) sequence: Option<u64>,
}

impl QueuedEntry {
    /// Returns an entry that is in the database alone.
    pub(super) fn awaited(entry: ChangeEntry) -> Self {
        QueuedEntry {
            entry,
            sequence: None,
        }
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.sequence.is_none()
    }

    /// Returns whether this is a submission that nobody knows to be accepted.
    pub(super) fn is_refusable(&self) -> bool {
        self.is_awaited() && self.entry.is_submission()
    }
}
