//! The journal: changes that the database does not have yet.
//!
//! A commit of the database costs more than starting a command. So the changes that answer requests and reports are
//! appended here, by the scheduler's own thread, and the database gets many of them in one transaction soon
//! afterwards. A write survives the end of escherd by any cause, and the next escherd applies to the database what
//! it lacks ([`replay`]).
//!
//! Each change has a sequence number. The database has that of the last one in it, so none is applied twice. There are
//! two files: one is written from its beginning again once the database has everything in it, while the other one
//! grows. What they held is overwritten with zeros then, if it may have had an environment in it.

mod record;
pub(super) mod replay;
mod segment;
mod shared;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use super::{Change, ChangeEntry};
use record::RecordWriter;
use segment::Segment;
pub(super) use shared::SharedJournal;

/// Identifies a store, whose journal has the same id.
pub(super) type StoreId = [u8; 16];

/// Bytes of a file after which the other one is used, as soon as the database has everything in that.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// Bytes of an encoded change above which it goes to the database at once: writing it would keep other requests
/// waiting.
const MAX_CHANGE_BYTES: usize = 64 * 1024;

/// Returns the paths of the journal of the store at `path`.
pub(super) fn paths(path: &Path) -> [PathBuf; 2] {
    ["escher-journal.0", "escher-journal.1"].map(|name| path.with_file_name(name))
}

/// An open journal.
#[derive(Debug)]
pub(super) struct ChangeJournal {
    segments: [Segment; 2],
    /// The index of the segment that is written.
    current: usize,
    last_sequence: u64,
}

impl ChangeJournal {
    /// Creates the empty journal of the store `id` at `path`, which has all changes up to `sequence`. What is there of
    /// an earlier one is overwritten.
    ///
    /// # Errors
    /// When a file cannot be created or written.
    pub(super) fn create(path: &Path, id: StoreId, sequence: u64) -> io::Result<Self> {
        let [first, second] = paths(path);
        Ok(ChangeJournal {
            segments: [Segment::create(&first, id)?, Segment::create(&second, id)?],
            current: 0,
            last_sequence: sequence,
        })
    }

    /// Appends `entries`, or those before the first one that is too large.
    ///
    /// # Errors
    /// When they cannot be written. Nothing is appended then.
    pub(super) fn append(&mut self, entries: &[ChangeEntry]) -> io::Result<Appended> {
        let mut writer = RecordWriter::new(self.last_sequence + 1);
        let mut has_secrets = false;
        for entry in entries {
            if !writer.add(entry, MAX_CHANGE_BYTES)? {
                break;
            }
            has_secrets |= may_have_secrets(&entry.change);
        }
        let appended = Appended {
            count: writer.count(),
            first_sequence: self.last_sequence + 1,
        };
        if appended.count == 0 {
            return Ok(appended);
        }
        let last = writer.last_sequence();
        self.segments[self.current].append(writer.bytes(), last, has_secrets)?;
        self.last_sequence = last;
        Ok(appended)
    }

    /// Notes that the database has all changes up to `sequence`: files that have no others are written from their
    /// beginning again.
    ///
    /// # Errors
    /// When a file cannot be overwritten.
    pub(super) fn on_applied(&mut self, sequence: u64) -> io::Result<()> {
        for segment in &mut self.segments {
            segment.reset_if_applied(sequence)?;
        }
        let other = 1 - self.current;
        if self.segments[self.current].bytes() >= SEGMENT_BYTES && self.segments[other].is_empty() {
            self.current = other;
        }
        Ok(())
    }
}

/// What was appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Appended {
    /// How many changes.
    pub(super) count: usize,
    /// The sequence number of the first; the others follow.
    pub(super) first_sequence: u64,
}

/// Returns whether a change may have an environment in it.
fn may_have_secrets(change: &Change) -> bool {
    matches!(change, Change::Submitted { submission, .. }
        if !(submission.request.environment.is_empty() && submission.request.inherited.is_empty()))
}
