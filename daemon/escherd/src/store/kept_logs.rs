//! The logs that the history keeps of one user.

use escher_protocol::{ExecutionId, User};
use rusqlite::params;

use super::columns::{self, signed};
use super::error::DatabaseError;
use super::readers::Snapshot;

/// Where a list of kept logs continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptLogsCursor {
    completed_at: i64,
    number: i64,
}

/// A part of the list of kept logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLogs {
    /// Their executions.
    pub ids: Vec<ExecutionId>,
    /// Where the list continues; `None` at its end.
    pub next: Option<KeptLogsCursor>,
}

/// The kept logs of a user in the order in which their executions ended.
pub(super) const SELECT: &str = "SELECT id, completed_at, number \
     FROM execution INDEXED BY execution_submitter_log \
     WHERE kept_log_bytes > 0 AND submitter_uid = ?1 AND submitter_name = ?2 \
     AND (completed_at, number) > (?3, ?4) ORDER BY completed_at, number LIMIT ?5";

/// Reads at most `limit` kept logs of `owner`.
pub(super) fn read(
    snapshot: &Snapshot<'_>,
    owner: &User,
    after: Option<KeptLogsCursor>,
    limit: usize,
) -> Result<KeptLogs, DatabaseError> {
    let mut last = after.unwrap_or(KeptLogsCursor {
        completed_at: i64::MIN,
        number: 0,
    });
    let name = columns::submitter_name(owner);
    let count = signed(limit as u64);
    let mut statement = snapshot.connection.prepare_cached(SELECT)?;
    let mut rows = statement.query(params![
        owner.uid,
        name,
        last.completed_at,
        last.number,
        count
    ])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(ExecutionId::from_bytes(row.get(0)?));
        last = KeptLogsCursor {
            completed_at: row.get(1)?,
            number: row.get(2)?,
        };
    }
    let next = (ids.len() == limit).then_some(last);
    Ok(KeptLogs { ids, next })
}
