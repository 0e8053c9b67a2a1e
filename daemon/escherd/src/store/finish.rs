//! The end of an execution and its removal: the changes that affect the totals.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_protocol::message::Removed;
use escher_protocol::{
    Canceller, ExecutionId, ExecutionRecord, Exit, OutputTotals, Timestamp, User,
};
use rusqlite::{OptionalExtension, Row, params};

use super::apply::{ExecutionRow, StoreTransaction};
use super::checksum::{self, BlobKind};
use super::columns::{self, StoredRecord, signed, unsigned};
use super::error::DatabaseError;
use super::{CommitOutcome, HistorySize, RequestDigest};

impl StoreTransaction<'_> {
    /// Writes the end of an execution, unless it is finished already or unknown.
    pub(super) fn finish(
        &mut self,
        record: &ExecutionRecord,
    ) -> Result<CommitOutcome, DatabaseError> {
        let number = record.number;
        let sql = "SELECT ended, digest FROM execution WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([signed(number)], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, Option<RequestDigest>>(1)?,
            ))
        });
        let log_bytes = match found.optional()? {
            Some((0, digest)) if record.command_cut => {
                self.write_end(&self.completed(record)?, digest)?
            }
            Some((0, digest)) => self.write_end(record, digest)?,
            Some(_) => {
                tracing::warn!("execution {number} is finished already");
                0
            }
            None => {
                tracing::warn!("execution {number} is not in the store: its end is dropped");
                0
            }
        };
        Ok(CommitOutcome::Finished { log_bytes })
    }

    /// Turns the row of `record` into that of a finished execution. Returns the bytes of its log and
    /// index.
    fn write_end(
        &mut self,
        record: &ExecutionRecord,
        digest: Option<RequestDigest>,
    ) -> Result<u64, DatabaseError> {
        let (Some(ended), Some(outcome)) = (columns::ended_code(record.status), &record.outcome)
        else {
            let number = record.number;
            tracing::error!("execution {number} was reported as finished but has no outcome");
            return Ok(0);
        };
        let number = signed(record.number);
        let body = checksum::encode(BlobKind::Record, record.number, &(digest, record))?;
        let kept_log_bytes = kept_log_bytes(record);
        let sql = "INSERT OR REPLACE INTO record (number, body) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![number, body])?;
        let (exit_code, signal) = match outcome.exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal { signal, .. } => (None, Some(signal)),
            Exit::NotStarted { .. } | Exit::Withdrawn | Exit::Unknown => (None, None),
        };
        let sql = "UPDATE execution SET ended = ?2, progress = NULL, pid = NULL, started_at = ?3, \
                   completed_at = ?4, cancelled_by = ?5, exit_code = ?6, signal = ?7, error = ?8, \
                   duration_us = ?9, user_us = ?10, system_us = ?11, peak_memory_bytes = ?12, \
                   stdout_bytes = ?13, stderr_bytes = ?14, log_bytes = ?15, dropped_bytes = ?16, \
                   kept_log_bytes = ?17, log_removed = ?18, key = ?19 WHERE number = ?1";
        let completed_at = record.completed_at.unwrap_or(record.submitted_at);
        self.connection.prepare_cached(sql)?.execute(params![
            number,
            ended,
            record.started_at.map(Timestamp::as_micros),
            completed_at.as_micros(),
            record.cancelled_by.as_ref().map(Canceller::to_string),
            exit_code,
            signal,
            outcome.error.as_ref().map(|error| error.code.to_string()),
            signed(outcome.duration_us),
            signed(outcome.usage.user_us),
            signed(outcome.usage.system_us),
            signed(outcome.usage.peak_memory_bytes),
            signed(outcome.output.stdout_bytes),
            signed(outcome.output.stderr_bytes),
            signed(outcome.output.log_bytes),
            signed(outcome.output.dropped_bytes),
            signed(kept_log_bytes),
            record.log_removed,
            record.key.as_deref(),
        ])?;
        let mut statement = self
            .connection
            .prepare_cached("DELETE FROM submission WHERE number = ?1")?;
        statement.execute([number])?;
        if !record.labels.is_empty() {
            let sql = "UPDATE label SET ended = ?2 WHERE number = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute(params![number, ended])?;
        }
        let added = HistorySize {
            executions: 1,
            log_bytes: kept_log_bytes,
        };
        self.state.totals.history.add(added);
        self.users
            .change(&record.submitted_by, |size| size.add(added));
        Ok(kept_log_bytes)
    }

    /// Inserts a finished execution that has no row yet; returns `false` if its number, id or key
    /// is in use.
    pub(super) fn insert_finished(&mut self, stored: &StoredRecord) -> Result<bool, DatabaseError> {
        let row = ExecutionRow::from_record(&stored.record, stored.digest);
        match self.insert_row(&row, false, None) {
            Ok(()) => {
                self.write_end(&stored.record, stored.digest)?;
                Ok(true)
            }
            Err(error) if error.is_row_rejected() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes those of the executions `numbers` that are finished.
    pub(super) fn remove_all(&mut self, numbers: &[u64]) -> Result<CommitOutcome, DatabaseError> {
        let mut removal = Removal::default();
        for number in numbers {
            if let Some(row) = self.remove(*number)? {
                removal.removed.executions += 1;
                removal.add_log(&row);
            }
        }
        Ok(removal.into_outcome())
    }

    /// Removes a finished execution, and records that its files are to be deleted: there may be
    /// more than a log. Returns what was its row.
    fn remove(&mut self, number: u64) -> Result<Option<RemovableRow>, DatabaseError> {
        let mut statement = self.connection.prepare_cached(REMOVABLE)?;
        let Some(found) = statement
            .query_row([signed(number)], RemovableRow::read)
            .optional()?
        else {
            return Ok(None);
        };
        self.insert_undeleted_log(found.id)?;
        for sql in REMOVALS {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute([signed(number)])?;
        }
        self.shrink_history(&found, 1);
        Ok(Some(found))
    }

    /// Removes the logs of those of the executions `numbers` that are finished and have one.
    pub(super) fn remove_logs(&mut self, numbers: &[u64]) -> Result<CommitOutcome, DatabaseError> {
        let mut removal = Removal::default();
        for number in numbers {
            if let Some(row) = self.remove_log(*number)? {
                removal.add_log(&row);
            }
        }
        Ok(removal.into_outcome())
    }

    /// Removes the log of a finished execution, of which the record is to say so. Returns what was its
    /// row.
    fn remove_log(&mut self, number: u64) -> Result<Option<RemovableRow>, DatabaseError> {
        let mut statement = self.connection.prepare_cached(REMOVABLE)?;
        let found = statement
            .query_row([signed(number)], RemovableRow::read)
            .optional()?;
        let Some(found) = found.filter(|found| found.kept_log_bytes > 0) else {
            return Ok(None);
        };
        self.insert_undeleted_log(found.id)?;
        let sql = "UPDATE execution SET kept_log_bytes = 0, log_removed = 1 WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute([signed(number)])?;
        self.note_log_removed(number)?;
        self.shrink_history(&found, 0);
        Ok(Some(found))
    }

    /// Has the record of an execution say that its log was removed. A damaged record stays as it is:
    /// reading it is an error that says so.
    fn note_log_removed(&self, number: u64) -> Result<(), DatabaseError> {
        let sql = "SELECT body FROM record WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let body: Option<Vec<u8>> = statement
            .query_row([signed(number)], |row| row.get(0))
            .optional()?;
        let mut stored: StoredRecord =
            match checksum::decode(BlobKind::Record, number, &body.unwrap_or_default()) {
                Ok(stored) => stored,
                Err(error) => {
                    tracing::error!("{error}; its log is removed");
                    return Ok(());
                }
            };
        stored.record.log_removed = true;
        let body = checksum::encode(BlobKind::Record, number, &stored)?;
        let sql = "UPDATE record SET body = ?2 WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![signed(number), body])?;
        Ok(())
    }

    /// Takes the log of an execution out of the totals, and `executions` of its submitter.
    fn shrink_history(&mut self, removed: &RemovableRow, executions: u64) {
        let removed_size = HistorySize {
            executions,
            log_bytes: removed.kept_log_bytes,
        };
        self.state.totals.history.subtract(removed_size);
        self.users
            .change(&removed.submitter, |size| size.subtract(removed_size));
    }
}

/// What a removal has removed so far.
#[derive(Default)]
struct Removal {
    removed: Removed,
    logs: Vec<ExecutionId>,
    freed_log_bytes: BTreeMap<u32, u64>,
}

impl Removal {
    /// Adds the log of an execution.
    fn add_log(&mut self, row: &RemovableRow) {
        self.removed.log_bytes += row.log_bytes;
        self.logs.push(row.id);
        if row.kept_log_bytes > 0 {
            let freed = self.freed_log_bytes.entry(row.submitter.uid).or_default();
            *freed = freed.saturating_add(row.kept_log_bytes);
        }
    }

    fn into_outcome(self) -> CommitOutcome {
        CommitOutcome::Removed {
            removed: self.removed,
            logs: self.logs,
            freed_log_bytes: self.freed_log_bytes,
        }
    }
}

/// What a removal needs of the row of a finished execution.
struct RemovableRow {
    id: ExecutionId,
    submitter: User,
    /// Bytes of the log that the removal deletes, without its index.
    log_bytes: u64,
    /// Bytes that it takes from the history.
    kept_log_bytes: u64,
}

impl RemovableRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(RemovableRow {
            id: ExecutionId::from_bytes(row.get(0)?),
            submitter: columns::submitter(row.get(1)?, row.get(2)?),
            log_bytes: unsigned(row.get(3)?),
            kept_log_bytes: unsigned(row.get(4)?),
        })
    }
}

/// Reads a [`RemovableRow`].
const REMOVABLE: &str = "SELECT id, submitter_uid, submitter_name, iif(log_removed, 0, log_bytes), \
     kept_log_bytes FROM execution WHERE number = ?1 AND ended > 0";

/// Remove the rows of an execution.
const REMOVALS: [&str; 3] = [
    "DELETE FROM execution WHERE number = ?1",
    "DELETE FROM record WHERE number = ?1",
    "DELETE FROM label WHERE number = ?1",
];

/// Returns the statements of a removal, for the test of their cost.
#[cfg(test)]
pub(super) fn removal_statements() -> Vec<String> {
    let all = REMOVALS.into_iter().chain([REMOVABLE]);
    all.map(str::to_owned).collect()
}

/// Returns the bytes that a finished execution takes of the history.
pub(super) fn kept_log_bytes(record: &ExecutionRecord) -> u64 {
    if record.log_removed {
        0
    } else {
        log_and_index_bytes(record)
    }
}

/// Returns the bytes of a finished execution's log and index, with those that are reserved for what it has left.
fn log_and_index_bytes(record: &ExecutionRecord) -> u64 {
    if !columns::may_have_log(record) {
        return 0;
    }
    let path = Path::new(OsStr::from_bytes(&record.log_path));
    let outcome = record.outcome.as_ref();
    let output = outcome.map_or_else(OutputTotals::default, |outcome| outcome.output);
    let size = |path: &Path| {
        std::fs::symlink_metadata(path).map_or(0, |found| match output.forgotten_bytes {
            0 => found.len(),
            // A part of the index is a hole, which takes no space.
            _ => found.len().min(found.blocks() * 512),
        })
    };
    let counted = output.log_bytes.saturating_sub(output.forgotten_bytes);
    // Without a count, the size of the file is the best there is.
    let log = if counted > 0 { counted } else { size(path) };
    let index = size(&path.with_extension("idx"));
    log.saturating_add(index)
        .saturating_add(output.reserved_bytes)
}
