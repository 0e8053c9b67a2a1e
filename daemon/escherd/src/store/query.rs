//! Lists of finished executions.
//!
//! Times become bounds of the number; then [`index_scan`](super::index_scan) find numbers, and these their records.

use escher_protocol::message::Selection;
use escher_protocol::{ExecutionRecord, Resources, Text};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params_from_iter};

use super::checksum::{self, Kind};
use super::columns::{StoredRecord, signed, unsigned};
use super::error::DatabaseError;
use super::index_scan::{uid, walks};
use super::readers::Snapshot;
use super::totals::Totals;

/// Records of finished executions that fit, the newest first.
pub(super) fn list(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    selection: &Selection,
    before: u64,
    room: usize,
) -> Result<Vec<ExecutionRecord>, DatabaseError> {
    let mut records = Vec::new();
    for number in finished_numbers(snapshot, of, selection, before, room)? {
        match record(snapshot, number) {
            // Damage to an index must not show anybody what is not for it.
            Ok(Some(record)) if fits(&record, of, selection) => records.push(record),
            Ok(_) => snapshot.damage.note(&Kind::Record.damaged(number)),
            Err(fault) if fault.is_damage() => snapshot.damage.note(&fault),
            Err(fault) => return Err(fault),
        }
    }
    Ok(records)
}

/// The record of a finished execution.
pub(super) fn record(
    snapshot: &Snapshot<'_>,
    number: u64,
) -> Result<Option<ExecutionRecord>, DatabaseError> {
    Ok(kept(snapshot, number)?.map(|kept| kept.record))
}

/// What a finished execution was allowed to use, and has used.
pub(super) fn resources(
    snapshot: &Snapshot<'_>,
    number: u64,
) -> Result<Option<Resources>, DatabaseError> {
    Ok(kept(snapshot, number)?.map(|kept| kept.resources))
}

fn kept(snapshot: &Snapshot<'_>, number: u64) -> Result<Option<StoredRecord>, DatabaseError> {
    let sql = "SELECT body FROM record WHERE number = ?1";
    let mut statement = snapshot.connection.prepare_cached(sql)?;
    let body: Option<Vec<u8>> = statement
        .query_row([signed(number)], |row| row.get(0))
        .optional()?;
    body.map(|body| checksum::unwrap(Kind::Record, number, &body))
        .transpose()
}

/// The numbers of finished executions that fit, below `before`, the newest first; at most `room`.
pub(super) fn finished_numbers(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    selection: &Selection,
    before: u64,
    room: usize,
) -> Result<Vec<u64>, DatabaseError> {
    let Some((above, below)) = bounds(snapshot, selection, signed(before))? else {
        return Ok(Vec::new());
    };
    let mut found: Vec<i64> = Vec::new();
    for walk in walks(&snapshot.connection, of, selection)? {
        // Once there are enough, the next walks only have to look for newer ones.
        let above = match found.last() {
            Some(last) if found.len() >= room => *last,
            _ => above,
        };
        let mut statement = snapshot.connection.prepare_cached(&walk.sql)?;
        let bounds = [above, below, signed(room as u64)].map(Value::Integer);
        let mut rows = statement.query(params_from_iter(walk.values.iter().chain(&bounds)))?;
        while let Some(row) = rows.next()? {
            found.push(row.get(0)?);
        }
        // The name of one user may be the number of another.
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.dedup();
        found.truncate(room);
    }
    Ok(found.into_iter().map(unsigned).collect())
}

/// Numbers above the first and below the second are all that can have been submitted in time.
fn bounds(
    snapshot: &Snapshot<'_>,
    selection: &Selection,
    before: i64,
) -> Result<Option<(i64, i64)>, DatabaseError> {
    let (mut above, mut below) = (0, before);
    if let Some(since) = selection.since {
        // Nothing with a lower number was submitted at that time or later, whatever the clock did: its
        // `clock_high` would have been as high.
        match first_from(snapshot, since.as_micros())? {
            Some(first) => above = first - 1,
            None => return Ok(None),
        }
    }
    if let Some(until) = selection.until {
        // Nothing with this number or a higher one was submitted before that time, less the furthest that
        // the clock ever went back.
        let back = Totals::read(&snapshot.connection)?.clock_back;
        if let Some(first) = first_from(snapshot, until.as_micros().saturating_add(back))? {
            below = below.min(first);
        }
    }
    Ok(Some((above, below)))
}

/// The first number whose `clock_high` is at `time` or later. As that never falls while numbers rise, it is
/// found by halving; numbers may be missing.
fn first_from(snapshot: &Snapshot<'_>, time: i64) -> Result<Option<i64>, DatabaseError> {
    let mut at_or_after = snapshot.connection.prepare_cached(AT_OR_AFTER)?;
    let mut next = |number: i64| -> Result<Option<(i64, i64)>, DatabaseError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(at_or_after.query_row([number], read).optional()?)
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

/// The first execution from a number on.
pub(super) const AT_OR_AFTER: &str =
    "SELECT number, clock_high FROM execution WHERE number >= ?1 ORDER BY number LIMIT 1";

/// The newest execution.
pub(super) const NEWEST: &str = "SELECT max(number) FROM execution";

/// Whether a record is one that was asked for.
fn fits(record: &ExecutionRecord, of: Option<u32>, selection: &Selection) -> bool {
    let Selection {
        filter,
        since,
        until,
    } = selection;
    let is_user =
        |user: &Text| record.user.name.as_ref() == Some(user) || uid(user) == Some(record.user.uid);
    let mut labels = filter.labels.iter();
    of.is_none_or(|of| record.submitted_by.uid == of)
        && (filter.statuses.is_empty() || filter.statuses.contains(&record.status))
        && (filter.name.is_none() || record.name == filter.name)
        && filter.user.as_ref().is_none_or(is_user)
        && labels.all(|label| record.labels.contains(label))
        && since.is_none_or(|since| record.submitted_at >= since)
        && until.is_none_or(|until| record.submitted_at < until)
}
