//! Lists of finished executions.
//!
//! Times become bounds of the number, a [`search`](super::search) finds numbers within them, and
//! these lead to the records.

use std::ops::Range;

use escher_protocol::message::Selection;
use escher_protocol::{ExecutionRecord, User};
use rusqlite::{OptionalExtension, Row};

use super::checksum::BlobKind;
use super::columns::signed;
use super::error::DatabaseError;
use super::readers::Snapshot;
use super::search::{HistoryPage, search};
use super::stored_record;
use super::totals::Totals;
use crate::execution::{MAX_PAGE_BYTES, Matcher, listed};

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
    let matcher = Matcher::new(selection);
    let is_of = |record: &ExecutionRecord| {
        submitter.is_none_or(|submitter| record.submitted_by == *submitter)
    };
    let (mut found, mut bytes) = (Vec::new(), 0);
    for number in numbers.found {
        let record = stored_record::read_with_length(snapshot, number);
        match snapshot.skip_damaged(record)? {
            // Damage to an index must not show anybody the record of another user.
            Some(Some((record, length))) if is_of(&record) && matcher.matches_record(&record) => {
                bytes += length;
                found.push(listed(record));
            }
            Some(_) => snapshot.damage.report(&BlobKind::Record.damaged(number)),
            None => {}
        }
        if bytes >= MAX_PAGE_BYTES {
            let next = Some(number);
            return Ok(HistoryPage { found, next });
        }
    }
    let next = numbers.next;
    Ok(HistoryPage { found, next })
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

/// Returns all statements of a list, for the tests of their query plans and of their cost.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let own = [FROM_NUMBER, NEWEST].map(str::to_owned);
    super::search::statements().into_iter().chain(own).collect()
}
