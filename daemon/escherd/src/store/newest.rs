//! Finding the newest finished execution of a user.

use escher_protocol::{ExecutionId, Status, User};
use rusqlite::{OptionalExtension, params};

use super::columns::{self, unsigned};
use super::error::DatabaseError;
use super::readers::Snapshot;

/// Returns number and id of the newest execution of `owner` that has ended in one of `statuses`.
pub(super) fn find(
    snapshot: &Snapshot<'_>,
    owner: &User,
    statuses: &[Status],
) -> Result<Option<(u64, ExecutionId)>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(SELECT)?;
    let mut newest = None;
    for ended in statuses.iter().copied().filter_map(columns::ended_code) {
        let values = params![owner.uid, columns::submitter_name(owner), ended];
        let found = statement.query_row(values, |row| {
            Ok((unsigned(row.get(0)?), ExecutionId::from_bytes(row.get(1)?)))
        });
        newest = newest.max(found.optional()?);
    }
    Ok(newest)
}

/// The newest execution of a user and a value of `ended`.
pub(super) const SELECT: &str = "SELECT number, id FROM execution INDEXED BY execution_submitter \
     WHERE submitter_uid = ?1 AND submitter_name = ?2 AND ended = ?3 AND ended > 0 ORDER BY number DESC LIMIT 1";
