//! Lists of finished executions.
//!
//! Times become bounds of the number, a [`search`](super::search) finds numbers within them, and
//! these lead to the records.

use std::ops::Range;

use escher_protocol::message::Selection;
use escher_protocol::{ExecutionRecord, Text, User};
use rusqlite::{OptionalExtension, Row};

use super::checksum::{self, BlobKind};
use super::columns::{StoredRecord, signed};
use super::error::{DamageEvidence, DatabaseError};
use super::index_scan::parse_uid;
use super::readers::Snapshot;
use super::search::{HistoryPage, search};
use super::totals::Totals;
use crate::execution::{MAX_PAGE_BYTES, RequiredLabels, listed};

/// Returns the records of finished executions that match, with a number in `range`, the newest first;
/// at most `limit`. Long commands are shortened in them.
pub(super) fn list(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    selection: &Selection,
    range: Range<u64>,
    limit: usize,
) -> Result<HistoryPage<ExecutionRecord>, DatabaseError> {
    let numbers = finished_numbers(snapshot, submitter, selection, range, limit)?;
    let labels = RequiredLabels::new(&selection.filter.labels);
    let (mut found, mut bytes) = (Vec::new(), 0);
    for number in numbers.found {
        let body = record_body(snapshot, number);
        bytes += body
            .as_ref()
            .map_or(0, |body| body.as_ref().map_or(0, Vec::len));
        match body.and_then(|body| decode_record(number, body)) {
            // Damage to an index must not show anybody the record of another user.
            Ok(Some(record)) if matches(&record, submitter, selection, &labels) => {
                found.push(listed(record));
            }
            Ok(_) => snapshot.damage.report(&BlobKind::Record.damaged(number)),
            Err(error) if error.evidence() != DamageEvidence::None => {
                snapshot.damage.report(&error);
            }
            Err(error) => return Err(error),
        }
        if bytes >= MAX_PAGE_BYTES {
            let next = Some(number);
            return Ok(HistoryPage { found, next });
        }
    }
    let next = numbers.next;
    Ok(HistoryPage { found, next })
}

/// Reads the record of a finished execution.
pub(super) fn record(
    snapshot: &Snapshot<'_>,
    number: u64,
) -> Result<Option<ExecutionRecord>, DatabaseError> {
    decode_record(number, record_body(snapshot, number)?)
}

fn record_body(snapshot: &Snapshot<'_>, number: u64) -> Result<Option<Vec<u8>>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(RECORD)?;
    let body = statement.query_row([signed(number)], |row| row.get(0));
    Ok(body.optional()?)
}

fn decode_record(
    number: u64,
    body: Option<Vec<u8>>,
) -> Result<Option<ExecutionRecord>, DatabaseError> {
    let Some(body) = body else {
        return Ok(None);
    };
    let stored: StoredRecord = checksum::decode(BlobKind::Record, number, &body)?;
    Ok(Some(stored.record))
}

/// Returns the numbers of finished executions that match, of those in `range`, the newest first; at
/// most `limit`.
pub(super) fn finished_numbers(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    selection: &Selection,
    range: Range<u64>,
    limit: usize,
) -> Result<HistoryPage<u64>, DatabaseError> {
    match number_bounds(snapshot, selection, range)? {
        Some(bounds) => search(snapshot, submitter, selection, bounds, limit),
        None => Ok(HistoryPage::empty()),
    }
}

/// Returns two numbers between which all executions of `range` lie that were submitted in the selected
/// time; `None` if there are none.
fn number_bounds(
    snapshot: &Snapshot<'_>,
    selection: &Selection,
    range: Range<u64>,
) -> Result<Option<(i64, i64)>, DatabaseError> {
    let mut above = signed(range.start).saturating_sub(1);
    let mut below = signed(range.end);
    if let Some(since) = selection.since {
        // No lower number was submitted at that time or later, whatever the clock did: its
        // `clock_high` would have been as high.
        match first_at_or_after(snapshot, since.as_micros())? {
            Some(first) => above = above.max(first - 1),
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
const FROM_NUMBER: &str =
    "SELECT number, clock_high FROM execution WHERE number >= ?1 ORDER BY number LIMIT 1";

/// The newest execution.
const NEWEST: &str = "SELECT max(number) FROM execution";

/// The record of an execution.
const RECORD: &str = "SELECT body FROM record WHERE number = ?1";

/// Returns all statements of a list, for the tests of their query plans and of their cost.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let own = [FROM_NUMBER, NEWEST, RECORD].map(str::to_owned);
    super::search::statements().into_iter().chain(own).collect()
}

/// Returns whether a record matches the selection, whose labels are `labels`.
fn matches(
    record: &ExecutionRecord,
    submitter: Option<&User>,
    selection: &Selection,
    labels: &RequiredLabels<'_>,
) -> bool {
    let Selection {
        filter,
        since,
        until,
    } = selection;
    let is_user = |user: &Text| {
        record.user.name.as_ref() == Some(user) || parse_uid(user) == Some(record.user.uid)
    };
    let pairs = record
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    submitter.is_none_or(|submitter| record.submitted_by == *submitter)
        && (filter.statuses.is_empty() || filter.statuses.contains(&record.status))
        && (filter.name.is_none() || record.name == filter.name)
        && filter.user.as_ref().is_none_or(is_user)
        && labels.are_among(pairs)
        && since.is_none_or(|since| record.submitted_at >= since)
        && until.is_none_or(|until| record.submitted_at < until)
}
