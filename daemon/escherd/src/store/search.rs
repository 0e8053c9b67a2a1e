//! Searches in the history, in blocks of bounded cost.
//!
//! A search may have to read the whole history and find nothing. So it stops after a bounded number
//! of rows and says where to continue: other users' queries run in between, and a search whose
//! caller has gone is not continued.

use escher_protocol::message::Selection;
use escher_protocol::{Timestamp, User};
use rusqlite::OptionalExtension;

use super::columns::{self, unsigned};
use super::error::DatabaseError;
use super::index_scan::{self, IndexKey, IndexScan};
use super::readers::Snapshot;
use super::stored_record;
use crate::execution::Matcher;

/// Rows of any table or index after which a search stops. They are read in some milliseconds.
const MAX_ROWS: usize = 8192;

/// Heads of scans that are compared in the time that a row takes.
const SCANS_PER_ROW: usize = 32;

/// Rows that are read in the time that a record takes, which is decoded.
const ROWS_PER_RECORD: usize = 8;

/// The fewest and the most numbers that are read from an index at once.
const MIN_CHUNK: usize = 16;
const MAX_CHUNK: usize = 256;

/// What a block of a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage<T> {
    /// The matches, the newest first. There may be none although the search is not at its end.
    pub found: Vec<T>,
    /// The search continues with lower numbers than this; `None`: it is at its end.
    pub next: Option<u64>,
}

impl<T> HistoryPage<T> {
    /// Returns the page of a search that finds nothing.
    pub(super) const fn empty() -> Self {
        HistoryPage {
            found: Vec::new(),
            next: None,
        }
    }
}

/// Finds the numbers of finished executions that match, between `above` and `below`, the newest
/// first; at most `limit`.
pub(super) fn search(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    selection: &Selection,
    (above, below): (i64, i64),
    limit: usize,
) -> Result<HistoryPage<u64>, DatabaseError> {
    let connection = &snapshot.connection;
    let matcher = Matcher::new(selection);
    let keys = index_scan::most_selective(connection, submitter, &matcher)?;
    let mut scans = Vec::new();
    for key in &keys {
        let codes = index_scan::ended_codes(&matcher).into_iter();
        scans.extend(codes.map(|ended| IndexScan::new(*key, ended, above, below)));
    }
    let condition = RowCondition::new(keys.first(), submitter, matcher);
    let fair_chunk = MAX_ROWS / scans.len().max(1);
    let chunk = limit.clamp(MIN_CHUNK, MAX_CHUNK).min(fair_chunk.max(1));
    let (mut found, mut rows) = (Vec::new(), 0);
    loop {
        let mut newest = None;
        rows += scans.len() / SCANS_PER_ROW;
        for scan in &mut scans {
            newest = newest.max(scan.head(connection, chunk, &mut rows)?);
        }
        let Some(number) = newest else {
            return Ok(HistoryPage { found, next: None });
        };
        // Two scans find the same execution if the name of one user is the uid of another, or if one
        // value is demanded twice.
        for scan in &mut scans {
            scan.take(number);
        }
        if condition.is_met(snapshot, number, &mut rows)? {
            found.push(unsigned(number));
        }
        if found.len() >= limit || rows >= MAX_ROWS {
            let next = Some(unsigned(number));
            return Ok(HistoryPage { found, next });
        }
    }
}

/// The conditions that the scanned index does not imply.
struct RowCondition<'a> {
    submitter: Option<&'a User>,
    matcher: Matcher<'a>,
    is_on_columns: bool,
    is_on_labels: bool,
}

impl<'a> RowCondition<'a> {
    fn new(key: Option<&IndexKey<'a>>, submitter: Option<&'a User>, matcher: Matcher<'a>) -> Self {
        let by_submitter = matches!(
            key,
            Some(IndexKey::Submitter(_) | IndexKey::SubmitterName(..))
        );
        let by_name = matches!(key, Some(IndexKey::Name(_) | IndexKey::SubmitterName(..)));
        let by_user = matches!(key, Some(IndexKey::UserName(_) | IndexKey::UserUid(_)));
        let by_label = match key {
            Some(IndexKey::Label(label, _)) => Some(*label),
            _ => None,
        };
        RowCondition {
            is_on_columns: submitter.is_some() && !by_submitter
                || matcher.has_name_conditions(by_name)
                || matcher.has_user_conditions(by_user)
                || matcher.has_time_conditions(),
            is_on_labels: matcher.has_label_conditions(by_label),
            submitter,
            matcher,
        }
    }

    /// Returns whether the execution `number` meets the conditions. Adds the number of rows that
    /// were read to `read`.
    fn is_met(
        &self,
        snapshot: &Snapshot<'_>,
        number: i64,
        read: &mut usize,
    ) -> Result<bool, DatabaseError> {
        let connection = &snapshot.connection;
        *read += self.matcher.effort();
        if self.is_on_columns {
            *read += 1;
            let mut statement = connection.prepare_cached(COLUMNS)?;
            let columns = statement.query_row([number], Columns::read).optional()?;
            if !columns.is_some_and(|columns| self.is_met_by(&columns)) {
                return Ok(false);
            }
        }
        if self.is_on_labels {
            let mut statement = connection.prepare_cached(LABELS)?;
            let mut rows = statement.query([number])?;
            let mut labels: Vec<(String, String)> = Vec::new();
            while let Some(row) = rows.next()? {
                *read += 1;
                labels.push((row.get(0)?, row.get(1)?));
            }
            if !self.matcher.matches_labels(labels) {
                return Ok(false);
            }
        }
        if self.matcher.needs_record() {
            *read += ROWS_PER_RECORD;
            let record = snapshot.skip_damaged(stored_record::read(snapshot, unsigned(number)))?;
            return Ok(record
                .flatten()
                .is_some_and(|record| self.matcher.matches_record(&record)));
        }
        Ok(true)
    }

    fn is_met_by(&self, columns: &Columns) -> bool {
        self.submitter
            .is_none_or(|submitter| columns.submitter == *submitter)
            && self.matcher.matches_name(columns.name.as_deref())
            && self
                .matcher
                .matches_user(columns.user_name.as_deref(), columns.user_uid)
            && self.matcher.matches_time(columns.submitted_at)
    }
}

/// The columns on which there are conditions.
struct Columns {
    submitter: User,
    user_uid: u32,
    user_name: Option<String>,
    name: Option<String>,
    submitted_at: Timestamp,
}

impl Columns {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Columns {
            submitter: columns::submitter(row.get(0)?, row.get(1)?),
            user_uid: row.get(2)?,
            user_name: row.get(3)?,
            name: row.get(4)?,
            submitted_at: Timestamp::from_micros(row.get(5)?),
        })
    }
}

/// Reads the [`Columns`] of an execution.
const COLUMNS: &str = "SELECT submitter_uid, submitter_name, user_uid, user_name, name, \
                       submitted_at FROM execution WHERE number = ?1";

/// Reads the labels of an execution.
const LABELS: &str = "SELECT key, value FROM label WHERE number = ?1";

/// Returns all statements of a search, for the tests of their query plans and of their cost.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let on_rows = [COLUMNS, LABELS, stored_record::RECORD].map(str::to_owned);
    index_scan::statements()
        .into_iter()
        .chain(on_rows)
        .collect()
}
