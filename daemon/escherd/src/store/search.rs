//! Searches in the history, in blocks of bounded cost.
//!
//! A search may have to read the whole history and find nothing. So it stops after a bounded number
//! of rows and says where to continue: other users' queries run in between, and a search whose
//! caller has gone is not continued.

use escher_protocol::User;
use escher_protocol::message::Selection;
use rusqlite::{Connection, OptionalExtension};

use super::columns::{self, unsigned};
use super::error::DatabaseError;
use super::index_scan::{self, IndexKey, IndexScan, parse_uid};
use super::readers::Snapshot;
use crate::execution::RequiredLabels;

/// Rows of any table or index after which a search stops. They are read in some milliseconds.
const MAX_ROWS: usize = 8192;

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
    let filter = &selection.filter;
    let labels = RequiredLabels::new(&filter.labels);
    if labels.are_contradictory() {
        return Ok(HistoryPage::empty());
    }
    let keys = index_scan::most_selective(connection, submitter, filter, &labels)?;
    let mut scans = Vec::new();
    for key in &keys {
        let codes = index_scan::ended_codes(filter).into_iter();
        scans.extend(codes.map(|ended| IndexScan::new(*key, ended, above, below)));
    }
    let condition = RowCondition::new(keys.first(), submitter, selection, labels);
    let chunk = limit.clamp(MIN_CHUNK, MAX_CHUNK);
    let (mut found, mut rows) = (Vec::new(), 0);
    loop {
        let mut newest = None;
        for scan in &mut scans {
            newest = newest.max(scan.head(connection, chunk, &mut rows)?);
        }
        let Some(number) = newest else {
            return Ok(HistoryPage { found, next: None });
        };
        // Two scans find the same execution if the name of one user is the uid of another.
        for scan in &mut scans {
            scan.take(number);
        }
        if condition.is_met(connection, number, &mut rows)? {
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
    selection: &'a Selection,
    labels: RequiredLabels<'a>,
    is_on_columns: bool,
    is_on_labels: bool,
}

impl<'a> RowCondition<'a> {
    fn new(
        key: Option<&IndexKey<'_>>,
        submitter: Option<&'a User>,
        selection: &'a Selection,
        labels: RequiredLabels<'a>,
    ) -> Self {
        let filter = &selection.filter;
        let by_submitter = matches!(
            key,
            Some(IndexKey::Submitter(_) | IndexKey::SubmitterName(..))
        );
        let by_name = matches!(key, Some(IndexKey::Name(_) | IndexKey::SubmitterName(..)));
        let by_user = matches!(key, Some(IndexKey::UserName(_) | IndexKey::UserUid(_)));
        let by_label = matches!(key, Some(IndexKey::Label(..)));
        RowCondition {
            is_on_columns: submitter.is_some() && !by_submitter
                || filter.name.is_some() && !by_name
                || filter.user.is_some() && !by_user
                || selection.since.is_some()
                || selection.until.is_some(),
            is_on_labels: labels.as_slice().len() > usize::from(by_label),
            submitter,
            selection,
            labels,
        }
    }

    /// Returns whether the execution `number` meets the conditions. Adds the number of rows that
    /// were read to `read`.
    fn is_met(
        &self,
        connection: &Connection,
        number: i64,
        read: &mut usize,
    ) -> Result<bool, DatabaseError> {
        if self.is_on_columns {
            *read += 1;
            let mut statement = connection.prepare_cached(COLUMNS)?;
            let columns = statement.query_row([number], Columns::read).optional()?;
            if !columns.is_some_and(|columns| self.is_met_by(&columns)) {
                return Ok(false);
            }
        }
        if !self.is_on_labels {
            return Ok(true);
        }
        let mut statement = connection.prepare_cached(LABELS)?;
        let mut rows = statement.query([number])?;
        let mut labels: Vec<(String, String)> = Vec::new();
        while let Some(row) = rows.next()? {
            *read += 1;
            labels.push((row.get(0)?, row.get(1)?));
        }
        Ok(self.labels.are_among(labels))
    }

    fn is_met_by(&self, columns: &Columns) -> bool {
        let Selection {
            filter,
            since,
            until,
        } = self.selection;
        let submitted_at = columns.submitted_at;
        self.submitter
            .is_none_or(|submitter| columns.submitter == *submitter)
            && (filter.name.is_none() || columns.name.as_deref() == filter.name.as_deref())
            && filter.user.as_ref().is_none_or(|user| {
                columns.user_name.as_deref() == Some(user)
                    || parse_uid(user) == Some(columns.user_uid)
            })
            && since.is_none_or(|since| submitted_at >= since.as_micros())
            && until.is_none_or(|until| submitted_at < until.as_micros())
    }
}

/// The columns on which there are conditions.
struct Columns {
    submitter: User,
    user_uid: u32,
    user_name: Option<String>,
    name: Option<String>,
    submitted_at: i64,
}

impl Columns {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Columns {
            submitter: columns::submitter(row.get(0)?, row.get(1)?),
            user_uid: row.get(2)?,
            user_name: row.get(3)?,
            name: row.get(4)?,
            submitted_at: row.get(5)?,
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
    let on_rows = [COLUMNS, LABELS].map(str::to_owned);
    index_scan::statements()
        .into_iter()
        .chain(on_rows)
        .collect()
}
