//! Reading what can be read from a damaged store.
//!
//! Damage is local: SQLite reports it for the pages that have it, and the seals tell it for the rows. So each
//! table is walked by number; where that stops, the next number is tried. What the rows' columns say is not
//! believed; all is made again from the sealed blobs.

use std::path::Path;

use escher_protocol::ResourceLimits;
use rusqlite::{Connection, TransactionBehavior};

use super::apply::Changes;
use super::checksum::{self, Kind};
use super::columns::{Progress, StoredRecord, signed, unsigned};
use super::connection;
use super::error::DatabaseError;
use super::load::checked_id;
use super::totals::{Totals, WriterState};
use super::{CommitOutcome, RequestDigest};
use crate::execution::Submission;

/// Most numbers in a row that are tried in vain before a table counts as unreadable from there on, which takes
/// some seconds. One page above the leaves of a table leads to some thousands of rows.
const MAX_FAILURES: u64 = 1 << 20;

/// Fewer bytes than any row takes: there are not more rows to be found than the file has of these.
const LEAST_ROW_BYTES: u64 = 64;

/// A damaged store.
struct Source {
    connection: Connection,
    max_failures: u64,
}

/// Takes over what can be read of the store at `from` into the empty one of `into`, and returns how many
/// executions that is. Nothing about `from` is an error.
pub(super) fn salvage(from: &Path, into: &mut Connection) -> Result<u64, DatabaseError> {
    let Ok(connection) = connection::salvager(from) else {
        return Ok(0);
    };
    let bytes = std::fs::metadata(from).map_or(0, |found| found.len());
    let source = Source {
        connection,
        max_failures: MAX_FAILURES.min(bytes / LEAST_ROW_BYTES),
    };
    let transaction = into.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut state = WriterState::default();
    let mut changes = Changes {
        connection: &transaction,
        state: &mut state,
    };
    let mut count = 0;
    walk(&source, "record", "number", |number, body| {
        if let Ok(kept) = checksum::unwrap::<StoredRecord>(Kind::Record, number, body) {
            count += u64::from(changes.restore(&kept)?);
        }
        Ok(())
    })?;
    walk(&source, "submission", "number", |number, body| {
        count += u64::from(unfinished(&source, &mut changes, number, body)?);
        Ok(())
    })?;
    walk(
        &source,
        "event",
        "sequence",
        |sequence, body| match checksum::unwrap(Kind::Event, sequence, body) {
            Ok(event) => changes.event(&event),
            Err(_) => Ok(()),
        },
    )?;
    undeleted_logs(&source, &changes)?;
    if let Ok(totals) = Totals::read(&source.connection) {
        state.totals.last_number = state.totals.last_number.max(totals.last_number);
    }
    state.totals.clock_back = order_clock(&transaction)?;
    state.totals.write(&transaction)?;
    transaction.commit()?;
    Ok(count)
}

/// Takes one over that was not finished; `false` if its row is not whole or its end is known already.
fn unfinished(
    source: &Source,
    changes: &mut Changes<'_>,
    number: u64,
    body: &[u8],
) -> Result<bool, DatabaseError> {
    type Body = (Option<RequestDigest>, Submission, ResourceLimits);
    let Ok((digest, mut submission, limits)) =
        checksum::unwrap::<Body>(Kind::Submission, number, body)
    else {
        return Ok(false);
    };
    submission.limits = limits;
    match changes.submitted(&submission, digest, true) {
        Ok(CommitOutcome::Committed) => {}
        Ok(_) => return Ok(false),
        Err(fault) if fault.is_about_the_row() => return Ok(false),
        Err(fault) => return Err(fault),
    }
    let sql = "SELECT progress FROM execution WHERE number = ?1";
    let found = source
        .connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_row([signed(number)], |row| row.get::<_, Vec<u8>>(0))
        });
    let progress = found.map(|blob| checksum::unwrap::<Progress>(Kind::Progress, number, &blob));
    // Where that is not known it counts as handed to a shim, so that it cannot run twice.
    if let Ok(Ok(progress)) = progress {
        changes.write_progress(number, &progress)?;
    }
    Ok(true)
}

fn undeleted_logs(source: &Source, changes: &Changes<'_>) -> Result<(), DatabaseError> {
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT id, checksum FROM undeleted_log ORDER BY id {order}");
        let Ok(mut statement) = source.connection.prepare(&sql) else {
            return Ok(());
        };
        let Ok(mut rows) = statement.query([]) else {
            return Ok(());
        };
        while let Ok(Some(row)) = rows.next() {
            let (Ok(id), Ok(found)) = (row.get(0), row.get::<_, Vec<u8>>(1)) else {
                continue;
            };
            if let Ok(id) = checked_id(id, &found) {
                changes.log_undeleted(id)?;
            }
        }
    }
    Ok(())
}

/// Calls `visit` with every row of a table that can be read, by its number, in rising order but for those
/// that are found from the end.
fn walk(
    source: &Source,
    table: &str,
    key: &str,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let rising = format!("SELECT {key}, body FROM {table} WHERE {key} >= ?1 ORDER BY {key}");
    let Ok(mut statement) = source.connection.prepare(&rising) else {
        return Ok(());
    };
    let (mut next, mut failures) = (0i64, 0);
    'again: while failures < source.max_failures {
        if let Ok(mut rows) = statement.query([next]) {
            loop {
                match rows.next() {
                    Ok(None) => break 'again,
                    Err(_) => break,
                    Ok(Some(row)) => {
                        let number: i64 = row.get(0).unwrap_or(i64::MIN);
                        if number < next {
                            break;
                        }
                        next = number.saturating_add(1);
                        failures = 0;
                        if let Ok(body) = row.get_ref(1).map(|value| value.as_blob()) {
                            visit(unsigned(number), body.unwrap_or_default())?;
                        }
                    }
                }
            }
        }
        next = next.saturating_add(1);
        failures += 1;
    }
    for number in rest_from_the_end(source, table, key, next) {
        let found = statement.query_row([number], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        });
        if let Ok((found, body)) = found
            && found == number
        {
            visit(unsigned(number), &body)?;
        }
    }
    Ok(())
}

/// The numbers from `next` on that are found from a table's end, falling.
fn rest_from_the_end(source: &Source, table: &str, key: &str, next: i64) -> Vec<i64> {
    let falling = format!("SELECT {key} FROM {table} WHERE {key} >= ?1 ORDER BY {key} DESC");
    let mut numbers: Vec<i64> = Vec::new();
    let Ok(mut statement) = source.connection.prepare(&falling) else {
        return numbers;
    };
    let Ok(mut rows) = statement.query([next]) else {
        return numbers;
    };
    while let Ok(Some(row)) = rows.next() {
        let Ok(number) = row.get(0) else { break };
        if number < next || numbers.last().is_some_and(|last| number >= *last) {
            break;
        }
        numbers.push(number);
    }
    numbers
}

/// Makes `clock_high` rise with the numbers whatever the order in which rows came, and returns the
/// `clock_back` of all.
fn order_clock(connection: &Connection) -> Result<i64, DatabaseError> {
    connection.execute(
        "UPDATE execution SET clock_high = high FROM (\
         SELECT number AS place, max(submitted_at) OVER (ORDER BY number) AS high FROM execution) \
         WHERE number = place",
        [],
    )?;
    let sql = "SELECT max(clock_high - submitted_at) FROM execution";
    let back: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(back.unwrap_or(0))
}
