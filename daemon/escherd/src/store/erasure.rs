//! Erasing what a store that was set aside need not keep.
//!
//! A request has an environment, and so secrets. The store erases them when their command has ended
//! ([`connection::writer`]); nobody would in a file that was set aside. So
//! once the new store has a request, it is overwritten in the old one.

use std::path::Path;

use rusqlite::{Connection, MAIN_DB, TransactionBehavior};

use super::columns::signed;
use super::connection;
use super::error::DatabaseError;

/// Overwrites the requests of the executions `numbers` in the damaged store at `path`, as far as the
/// damage allows. The rest of the file stays as it is.
///
/// # Errors
/// When a request could not be overwritten.
pub(super) fn erase_requests(path: &Path, numbers: &[u64]) -> Result<(), DatabaseError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let mut connection = connection::eraser(path)?;
    let mut outcome = erase_together(&mut connection, numbers);
    if outcome.is_err() {
        // Damage that is met in a transaction undoes all of it.
        outcome = Ok(());
        for number in numbers {
            outcome = erase_request(&connection, *number).and(outcome);
        }
    }
    // Earlier versions of the pages are in the write-ahead log.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    outcome
}

/// Overwrites requests in one transaction.
fn erase_together(connection: &mut Connection, numbers: &[u64]) -> Result<(), DatabaseError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for number in numbers {
        erase_request(&transaction, *number)?;
    }
    Ok(transaction.commit()?)
}

/// Overwrites a request where it is. Unlike an update this needs no free page and changes no tree, so
/// it works wherever the request can be read.
fn erase_request(connection: &Connection, number: u64) -> Result<(), DatabaseError> {
    let mut body = connection.blob_open(MAIN_DB, "submission", "body", signed(number), false)?;
    let zeros = vec![0; body.len()];
    Ok(body.write_at(&zeros, 0)?)
}
