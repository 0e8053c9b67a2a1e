//! Reading what can be read from a damaged store.
//!
//! Damage is local: SQLite reports it for pages, and checksums reveal it in rows. So each table is
//! read by number, and where that fails, the next number is tried. The columns are not trusted; all
//! rows are made anew from the blobs with checksums.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::apply::StoreTransaction;
use super::checksum::{self, BlobKind};
use super::columns::{StoredProgress, StoredRecord, signed, unsigned};
use super::connection;
use super::error::DatabaseError;
use super::load::undeleted_log_id;
use super::totals::{Totals, WriterState};
use super::user_totals::UserTotals;
use super::{CommitOutcome, RequestDigest, submission};
use crate::execution::Submission;

/// How many consecutive numbers are tried in vain before the rest of a table counts as unreadable,
/// which takes some seconds. A page above the leaves of a table leads to some thousands of rows.
const MAX_FAILURES: u64 = 1 << 20;

/// Fewer bytes than any row takes, which bounds the number of rows in a file.
const MIN_ROW_BYTES: u64 = 64;

/// A damaged store.
struct DamagedStore {
    connection: Connection,
    max_failures: u64,
}

/// What was read from a damaged store.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// How many executions the new store has from it.
    pub(super) executions: u64,
    /// The numbers of the executions whose requests could be read.
    pub(super) requests: Vec<u64>,
}

/// Copies what can be read of the store at `from` into the empty store `into`. Nothing about `from`
/// is an error.
pub(super) fn salvage(from: &Path, into: &mut Connection) -> Result<Salvaged, DatabaseError> {
    let mut salvaged = Salvaged::default();
    let Ok(connection) = connection::salvager(from) else {
        return Ok(salvaged);
    };
    let bytes = std::fs::metadata(from).map_or(0, |found| found.len());
    let source = DamagedStore {
        connection,
        max_failures: MAX_FAILURES.min(bytes / MIN_ROW_BYTES),
    };
    let transaction = into.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut state = WriterState::read(&transaction)?;
    let mut users = UserTotals::default();
    let mut target = StoreTransaction {
        connection: &transaction,
        state: &mut state,
        users: &mut users,
    };
    for_each_row(&source, "record", "number", |number, body| {
        if let Ok(stored) = checksum::decode::<StoredRecord>(BlobKind::Record, number, body) {
            salvaged.executions += u64::from(target.insert_finished(&stored)?);
        }
        Ok(())
    })?;
    for_each_row(&source, "submission", "number", |number, body| {
        if let Ok((digest, submission)) = submission::decode(number, body) {
            salvaged.requests.push(number);
            let is_new = salvage_unfinished(&source, &mut target, &submission, digest)?;
            salvaged.executions += u64::from(is_new);
        }
        Ok(())
    })?;
    for_each_row(
        &source,
        "event",
        "sequence",
        |sequence, body| match checksum::decode(BlobKind::Event, sequence, body) {
            Ok(event) => target.insert_event(&event),
            Err(_) => Ok(()),
        },
    )?;
    for_each_row(&source, "missed_event", "uid", |uid, body| {
        let sequence = checksum::decode(BlobKind::MissedEvent, uid, body);
        match (u32::try_from(uid), sequence) {
            (Ok(uid), Ok(sequence)) => target.insert_missed_event(uid, sequence),
            _ => Ok(()),
        }
    })?;
    salvage_undeleted_logs(&source, &target)?;
    if let Ok(totals) = Totals::read(&source.connection) {
        state.totals.last_number = state.totals.last_number.max(totals.last_number);
        // The journal goes on where the damaged store ends.
        state.totals.journal_sequence = totals.journal_sequence;
        state.totals.store_id = totals.store_id;
    }
    state.totals.clock_back = order_clock(&transaction)?;
    state.totals.write(&transaction)?;
    users.write(&transaction)?;
    transaction.commit()?;
    Ok(salvaged)
}

/// Copies an unfinished execution; returns `false` if its end is known, or its row contradicts
/// another.
fn salvage_unfinished(
    source: &DamagedStore,
    target: &mut StoreTransaction<'_>,
    submission: &Submission,
    digest: Option<RequestDigest>,
) -> Result<bool, DatabaseError> {
    let number = submission.number;
    match target.insert_submission(submission, digest, true) {
        Ok(CommitOutcome::Committed) => {}
        Ok(_) => return Ok(false),
        Err(error) if error.is_row_rejected() => return Ok(false),
        Err(error) => return Err(error),
    }
    let sql = "SELECT progress FROM execution WHERE number = ?1";
    let found = source
        .connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_row([signed(number)], |row| row.get::<_, Vec<u8>>(0))
        });
    let progress =
        found.map(|blob| checksum::decode::<StoredProgress>(BlobKind::Progress, number, &blob));
    // Without its progress it counts as admitted, so that it cannot run twice.
    if let Ok(Ok(progress)) = progress {
        target.write_progress(number, &progress)?;
    }
    Ok(true)
}

fn salvage_undeleted_logs(
    source: &DamagedStore,
    target: &StoreTransaction<'_>,
) -> Result<(), DatabaseError> {
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT id, checksum FROM undeleted_log ORDER BY id {order}");
        let Ok(mut statement) = source.connection.prepare(&sql) else {
            return Ok(());
        };
        let Ok(mut rows) = statement.query([]) else {
            return Ok(());
        };
        while let Ok(Some(row)) = rows.next() {
            let (Ok(id), Ok(checksum)) = (row.get(0), row.get::<_, Vec<u8>>(1)) else {
                continue;
            };
            if let Ok(id) = undeleted_log_id(id, &checksum) {
                target.insert_undeleted_log(id)?;
            }
        }
    }
    Ok(())
}

/// Calls `visit` with the number and body of every readable row of a table, in ascending order
/// except for the rows that are found from the end.
fn for_each_row(
    source: &DamagedStore,
    table: &str,
    key: &str,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let ascending = format!("SELECT {key}, body FROM {table} WHERE {key} >= ?1 ORDER BY {key}");
    let Ok(mut statement) = source.connection.prepare(&ascending) else {
        return Ok(());
    };
    let (mut next, mut failures) = (0i64, 0);
    'retry: while failures < source.max_failures {
        if let Ok(mut rows) = statement.query([next]) {
            loop {
                match rows.next() {
                    Ok(None) => break 'retry,
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
    for number in numbers_from_the_end(source, table, key, next) {
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

/// Returns the numbers from `min` on that are found from the end of a table, in descending order.
fn numbers_from_the_end(source: &DamagedStore, table: &str, key: &str, min: i64) -> Vec<i64> {
    let descending = format!("SELECT {key} FROM {table} WHERE {key} >= ?1 ORDER BY {key} DESC");
    let mut numbers: Vec<i64> = Vec::new();
    let Ok(mut statement) = source.connection.prepare(&descending) else {
        return numbers;
    };
    let Ok(mut rows) = statement.query([min]) else {
        return numbers;
    };
    while let Ok(Some(row)) = rows.next() {
        let Ok(number) = row.get(0) else { break };
        if number < min || numbers.last().is_some_and(|last| number >= *last) {
            break;
        }
        numbers.push(number);
    }
    numbers
}

/// Makes `clock_high` rise with the numbers, whatever the order in which rows were inserted, and
/// returns the `clock_back` of all.
fn order_clock(connection: &Connection) -> Result<i64, DatabaseError> {
    connection.execute(
        "UPDATE execution SET clock_high = high FROM (\
         SELECT number AS ordered, max(submitted_at) OVER (ORDER BY number) AS high FROM execution) \
         WHERE number = ordered",
        [],
    )?;
    let sql = "SELECT max(clock_high - submitted_at) FROM execution";
    let back: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(back.unwrap_or(0))
}
