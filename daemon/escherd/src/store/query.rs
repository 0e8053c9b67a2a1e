//! Lists of finished executions.
//!
//! Times become bounds of the number, [`index_scan`](super::index_scan) finds numbers within them,
//! and these lead to the records.

use escher_protocol::message::Selection;
use escher_protocol::{ExecutionRecord, Text};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params_from_iter};

use super::checksum::{self, BlobKind};
use super::columns::{StoredRecord, signed, unsigned};
use super::error::DatabaseError;
use super::index_scan::{index_scans, parse_uid};
use super::readers::Snapshot;
use super::totals::Totals;
use crate::execution::{PageLimit, memory_of};

/// Returns a page of the records of finished executions that match, the newest first.
pub(super) fn list(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    selection: &Selection,
    before: u64,
    limit: PageLimit,
) -> Result<Vec<ExecutionRecord>, DatabaseError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    for number in finished_numbers(snapshot, submitter, selection, before, limit.records)? {
        if bytes >= limit.bytes {
            break;
        }
        match record(snapshot, number) {
            // Damage to an index must not show anybody the record of another user.
            Ok(Some(record)) if matches(&record, submitter, selection) => {
                bytes += memory_of(&record);
                records.push(record);
            }
            Ok(_) => snapshot.damage.report(&BlobKind::Record.damaged(number)),
            Err(error) if error.is_damage() => snapshot.damage.report(&error),
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// Reads the record of a finished execution.
pub(super) fn record(
    snapshot: &Snapshot<'_>,
    number: u64,
) -> Result<Option<ExecutionRecord>, DatabaseError> {
    let sql = "SELECT body FROM record WHERE number = ?1";
    let mut statement = snapshot.connection.prepare_cached(sql)?;
    let body: Option<Vec<u8>> = statement
        .query_row([signed(number)], |row| row.get(0))
        .optional()?;
    body.map(|body| {
        let stored: StoredRecord = checksum::decode(BlobKind::Record, number, &body)?;
        Ok(stored.record)
    })
    .transpose()
}

/// Returns the numbers of finished executions that match, below `before`, the newest first; at most
/// `limit`.
pub(super) fn finished_numbers(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    selection: &Selection,
    before: u64,
    limit: usize,
) -> Result<Vec<u64>, DatabaseError> {
    let Some((above, below)) = number_bounds(snapshot, selection, signed(before))? else {
        return Ok(Vec::new());
    };
    let mut numbers: Vec<i64> = Vec::new();
    for scan in index_scans(&snapshot.connection, submitter, selection)? {
        // Once there are enough, the next scans only have to find newer ones.
        let above = match numbers.last() {
            Some(last) if numbers.len() >= limit => *last,
            _ => above,
        };
        let mut statement = snapshot.connection.prepare_cached(&scan.sql)?;
        let bounds = [above, below, signed(limit as u64)].map(Value::Integer);
        let mut rows = statement.query(params_from_iter(scan.values.iter().chain(&bounds)))?;
        while let Some(row) = rows.next()? {
            numbers.push(row.get(0)?);
        }
        // Two scans find the same execution if the name of one user is the uid of another.
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        numbers.dedup();
        numbers.truncate(limit);
    }
    Ok(numbers.into_iter().map(unsigned).collect())
}

/// Returns two numbers between which all executions lie that were submitted in the selected time;
/// `None` if there are none.
fn number_bounds(
    snapshot: &Snapshot<'_>,
    selection: &Selection,
    before: i64,
) -> Result<Option<(i64, i64)>, DatabaseError> {
    let (mut above, mut below) = (0, before);
    if let Some(since) = selection.since {
        // No lower number was submitted at that time or later, whatever the clock did: its
        // `clock_high` would have been as high.
        match first_at_or_after(snapshot, since.as_micros())? {
            Some(first) => above = first - 1,
            None => return Ok(None),
        }
    }
    if let Some(until) = selection.until {
        // Neither this number nor a higher one was submitted before that time, less the most by
        // which the clock was ever set back.
        let back = Totals::read(&snapshot.connection)?.clock_back;
        if let Some(first) = first_at_or_after(snapshot, until.as_micros().saturating_add(back))? {
            below = below.min(first);
        }
    }
    Ok(Some((above, below)))
}

/// Returns the first number whose `clock_high` is at `time` or later. As `clock_high` never falls
/// while numbers rise, a binary search finds it; numbers may be missing.
fn first_at_or_after(snapshot: &Snapshot<'_>, time: i64) -> Result<Option<i64>, DatabaseError> {
    let mut from_number = snapshot.connection.prepare_cached(FROM_NUMBER)?;
    let mut next = |number: i64| -> Result<Option<(i64, i64)>, DatabaseError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(from_number.query_row([number], read).optional()?)
    };
    let mut newest = snapshot.connection.prepare_cached(NEWEST)?;
    let newest: Option<i64> = newest.query_row([], |row| row.get(0))?;
    let Some(newest) = newest else {
        return Ok(None);
    };
    let (mut low, mut high): (i64, i64) = (1, newest);
    // All below `low` are too early; the first that is not is at `high` or below, if there is one.
    while low < high {
        let middle = low + (high - low) / 2;
        match next(middle)? {
            Some((number, clock_high)) if clock_high < time => low = number + 1,
            _ => high = middle,
        }
    }
    let found = next(low)?.filter(|(_, clock_high)| *clock_high >= time);
    Ok(found.map(|(number, _)| number))
}

/// The first execution with a number or a higher one.
pub(super) const FROM_NUMBER: &str =
    "SELECT number, clock_high FROM execution WHERE number >= ?1 ORDER BY number LIMIT 1";

/// The newest execution.
pub(super) const NEWEST: &str = "SELECT max(number) FROM execution";

/// Returns whether a record matches the selection.
fn matches(record: &ExecutionRecord, submitter: Option<u32>, selection: &Selection) -> bool {
    let Selection {
        filter,
        since,
        until,
    } = selection;
    let is_user = |user: &Text| {
        record.user.name.as_ref() == Some(user) || parse_uid(user) == Some(record.user.uid)
    };
    let mut labels = filter.labels.iter();
    submitter.is_none_or(|submitter| record.submitted_by.uid == submitter)
        && (filter.statuses.is_empty() || filter.statuses.contains(&record.status))
        && (filter.name.is_none() || record.name == filter.name)
        && filter.user.as_ref().is_none_or(is_user)
        && labels.all(|label| record.labels.contains(label))
        && since.is_none_or(|since| record.submitted_at >= since)
        && until.is_none_or(|until| record.submitted_at < until)
}
