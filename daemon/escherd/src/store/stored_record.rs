//! Records of finished executions.

use escher_protocol::ExecutionRecord;
use rusqlite::OptionalExtension;

use super::checksum::{self, BlobKind};
use super::columns::{StoredRecord, signed};
use super::error::DatabaseError;
use super::readers::Snapshot;

/// Reads the record of a finished execution.
pub(super) fn read(
    snapshot: &Snapshot<'_>,
    number: u64,
) -> Result<Option<ExecutionRecord>, DatabaseError> {
    let record = read_with_length(snapshot, number)?;
    Ok(record.map(|(record, _)| record))
}

/// As [`read`], with the length that it has in the store.
pub(super) fn read_with_length(
    snapshot: &Snapshot<'_>,
    number: u64,
) -> Result<Option<(ExecutionRecord, usize)>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(RECORD)?;
    let body = statement.query_row([signed(number)], |row| row.get(0));
    let body: Option<Vec<u8>> = body.optional()?;
    let Some(body) = body else {
        return Ok(None);
    };
    let stored: StoredRecord = checksum::decode(BlobKind::Record, number, &body)?;
    Ok(Some((stored.record, body.len())))
}

/// The record of an execution.
pub(super) const RECORD: &str = "SELECT body FROM record WHERE number = ?1";
