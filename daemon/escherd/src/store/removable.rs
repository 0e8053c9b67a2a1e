//! What a removal would remove.

use escher_protocol::User;
use escher_protocol::message::{Removed, Selection};
use rusqlite::OptionalExtension;

use super::columns::{signed, unsigned};
use super::error::DatabaseError;
use super::query;
use super::readers::Snapshot;

/// Counts finished executions that match, with numbers below `before`, and their logs; at most `limit`.
/// Returns with them where to continue, unless that is the end.
pub(super) fn count(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    selection: &Selection,
    before: u64,
    limit: usize,
) -> Result<(Removed, Option<u64>), DatabaseError> {
    let page = query::finished_numbers(snapshot, submitter, selection, 0..before, limit)?;
    let mut statement = snapshot.connection.prepare_cached(LOG_BYTES)?;
    let mut counted = Removed::default();
    for number in page.found {
        let log_bytes = statement.query_row([signed(number)], |row| row.get(0));
        if let Some(log_bytes) = log_bytes.optional()? {
            counted.executions += 1;
            counted.log_bytes += unsigned(log_bytes);
        }
    }
    Ok((counted, page.next))
}

/// The length of the log of a finished execution, if that is there.
const LOG_BYTES: &str =
    "SELECT iif(log_removed, 0, log_bytes) FROM execution WHERE number = ?1 AND ended > 0";

/// Returns all statements, for the test of their query plans.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    vec![LOG_BYTES.to_owned()]
}
