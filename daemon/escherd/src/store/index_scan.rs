//! Backward scans of indexes, and the choice of an index for a list of finished executions.
//!
//! Each index ends in the number, so a list is read backwards from the index of one condition, that
//! which the fewest executions meet, once for each status. The other conditions are
//! [checked row by row](super::search). So nothing is ever sorted, few rows are read that are not in
//! the answer, and each index has one statement, whatever a request asks for.
//!
//! SQLite's own choice was measured on 200,000 executions and is worse. After `ANALYZE`, with
//! histograms, it reads and sorts all executions with a common label (110 ms for a page that takes
//! 0.4 ms here). Without current statistics it reads the whole history for a rare label (150 ms,
//! here 0.2 ms). Both times grow with the history, and `ANALYZE` holds up commits. Counting up to a
//! bound is exact and needs no upkeep.

use std::collections::VecDeque;

use escher_protocol::User;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::columns::{self, signed, unsigned};
use super::error::DatabaseError;
use crate::execution::{Matcher, parse_uid};

/// The count at which counting stops when conditions are compared. Reaching it takes some tens of
/// microseconds.
const MAX_COUNT: u64 = 1000;

/// Most index entries that are counted for all conditions together.
const MAX_COUNTED: u64 = 4 * MAX_COUNT;

/// An index, and the values at which it is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexKey<'a> {
    /// All finished executions.
    Ended,
    /// The executions of a submitter.
    Submitter(&'a User),
    /// Those with a name.
    Name(&'a str),
    /// Those of a submitter with a name.
    SubmitterName(&'a User, &'a str),
    /// Those that run as a user with this login name.
    UserName(&'a str),
    /// Those that run as a user with this uid.
    UserUid(u32),
    /// Those with a label of this key and value.
    Label(&'a str, &'a str),
}

impl IndexKey<'_> {
    /// Returns the table with its index, and the condition on the columns before `ended`.
    ///
    /// Where the condition alone does not imply that of a partial index, `ended > 0` does.
    const fn table_and_condition(self) -> (&'static str, &'static str) {
        match self {
            IndexKey::Ended => ("execution INDEXED BY execution_ended", "ended > 0"),
            IndexKey::Submitter(_) => (
                "execution INDEXED BY execution_submitter",
                "ended > 0 AND submitter_uid = ? AND submitter_name = ?",
            ),
            IndexKey::Name(_) => (
                "execution INDEXED BY execution_name",
                "ended > 0 AND name = ?",
            ),
            IndexKey::SubmitterName(..) => (
                "execution INDEXED BY execution_submitter_name",
                "ended > 0 AND submitter_uid = ? AND submitter_name = ? AND name = ?",
            ),
            IndexKey::UserName(_) => (
                "execution INDEXED BY execution_user_name",
                "ended > 0 AND user_name = ?",
            ),
            IndexKey::UserUid(_) => (
                "execution INDEXED BY execution_user_uid",
                "ended > 0 AND user_uid = ?",
            ),
            IndexKey::Label(..) => (
                "label INDEXED BY label_ended",
                "ended > 0 AND key = ? AND value = ?",
            ),
        }
    }

    fn values(self) -> Vec<Value> {
        let text = |text: &str| Value::Text(text.to_owned());
        let submitter = |user: &User| {
            let name = columns::submitter_name(user);
            vec![user.uid.into(), text(name)]
        };
        match self {
            IndexKey::Ended => Vec::new(),
            IndexKey::UserUid(uid) => vec![uid.into()],
            IndexKey::Submitter(user) => submitter(user),
            IndexKey::Name(name) | IndexKey::UserName(name) => vec![text(name)],
            IndexKey::SubmitterName(user, name) => [submitter(user), vec![text(name)]].concat(),
            IndexKey::Label(key, value) => vec![text(key), text(value)],
        }
    }

    /// Returns the statement that reads numbers backwards. Its last values are `ended`, the numbers
    /// above and below which to read, and the limit.
    fn scan_sql(self) -> String {
        let (table, condition) = self.table_and_condition();
        format!(
            "SELECT number FROM {table} WHERE {condition} AND ended = ? AND number > ? \
             AND number < ? ORDER BY number DESC LIMIT ?"
        )
    }

    /// Returns the statement that counts entries. Its last values are the lowest and the highest
    /// value of `ended`, and the limit.
    fn count_sql(self) -> String {
        let (table, condition) = self.table_and_condition();
        format!(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} \
             AND ended BETWEEN ? AND ? LIMIT ?)"
        )
    }
}

/// Returns the keys of that condition of the filter which the fewest executions meet, as far as they
/// are counted. Together these keys lead to all matches.
pub(super) fn most_selective<'a>(
    connection: &Connection,
    submitter: Option<&'a User>,
    matcher: &Matcher<'a>,
) -> Result<Vec<IndexKey<'a>>, DatabaseError> {
    let mut conditions = indexed_conditions(submitter, matcher);
    let codes = ended_codes(matcher);
    let (Some(first), Some(last)) = (codes.first().copied(), codes.last().copied()) else {
        return Ok(Vec::new());
    };
    if conditions.len() == 1 {
        return Ok(conditions.swap_remove(0));
    }
    let max_count = MAX_COUNT.min(MAX_COUNTED / conditions.len().max(1) as u64);
    let (mut best, mut fewest) = (Vec::new(), u64::MAX);
    for keys in conditions {
        let mut count = 0;
        for key in &keys {
            let bounds = [first, last, signed(max_count - count)].map(Value::Integer);
            let values = key.values().into_iter().chain(bounds);
            let mut statement = connection.prepare_cached(&key.count_sql())?;
            let counted = statement.query_row(params_from_iter(values), |row| row.get(0));
            count += unsigned(counted?);
        }
        if count < fewest {
            (best, fewest) = (keys, count);
        }
    }
    Ok(best)
}

/// Returns the conditions that have an index, each as its keys, the usually most selective ones
/// first.
fn indexed_conditions<'a>(
    submitter: Option<&'a User>,
    matcher: &Matcher<'a>,
) -> Vec<Vec<IndexKey<'a>>> {
    let name_key = |name| match submitter {
        None => IndexKey::Name(name),
        Some(submitter) => IndexKey::SubmitterName(submitter, name),
    };
    let user_keys = |user| {
        let uid = parse_uid(user).map(IndexKey::UserUid);
        [IndexKey::UserName(user)].into_iter().chain(uid)
    };
    let names = matcher.exact_names();
    let name = names.map(|names| names.into_iter().map(name_key).collect());
    let labels = matcher.exact_labels().map(|(key, values)| {
        let keys = values.into_iter().map(|value| IndexKey::Label(key, value));
        keys.collect()
    });
    let users = matcher.exact_users();
    let user = users.map(|users| users.into_iter().flat_map(user_keys).collect());
    let mut conditions: Vec<_> = name.into_iter().chain(labels).chain(user).collect();
    match submitter {
        Some(submitter) => conditions.push(vec![IndexKey::Submitter(submitter)]),
        None if conditions.is_empty() => conditions.push(vec![IndexKey::Ended]),
        None => {}
    }
    conditions
}

/// Returns the values of `ended` that match, in order.
pub(super) fn ended_codes(matcher: &Matcher<'_>) -> Vec<i64> {
    let statuses = matcher.statuses().iter().copied();
    let mut codes: Vec<i64> = statuses.filter_map(columns::ended_code).collect();
    codes.sort_unstable();
    codes
}

/// A backward scan of an index for one value of `ended`, which reads some numbers at a time.
#[derive(Debug)]
pub(super) struct IndexScan<'a> {
    key: IndexKey<'a>,
    ended: i64,
    /// Numbers that are read and not yet taken.
    numbers: VecDeque<i64>,
    /// The scan reads numbers between these two.
    above: i64,
    below: i64,
    is_over: bool,
}

impl<'a> IndexScan<'a> {
    /// Creates a scan between two numbers, which has not read anything.
    pub(super) fn new(key: IndexKey<'a>, ended: i64, above: i64, below: i64) -> Self {
        IndexScan {
            key,
            ended,
            numbers: VecDeque::new(),
            above,
            below,
            is_over: false,
        }
    }

    /// Returns the highest number that is not taken; `None` at the end. If it has to be read, so are
    /// at most `count - 1` more. Adds the number of rows that were read to `read`.
    pub(super) fn head(
        &mut self,
        connection: &Connection,
        count: usize,
        read: &mut usize,
    ) -> Result<Option<i64>, DatabaseError> {
        if self.numbers.is_empty() && !self.is_over {
            let bounds = [self.ended, self.above, self.below, signed(count as u64)];
            let values = self.key.values().into_iter();
            let values = values.chain(bounds.map(Value::Integer));
            let mut statement = connection.prepare_cached(&self.key.scan_sql())?;
            let mut rows = statement.query(params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                self.numbers.push_back(row.get(0)?);
            }
            *read += self.numbers.len();
            self.is_over = self.numbers.len() < count;
            self.below = self.numbers.back().copied().unwrap_or(self.above);
        }
        Ok(self.numbers.front().copied())
    }

    /// Takes `number` if it is the head.
    pub(super) fn take(&mut self, number: i64) {
        if self.numbers.front() == Some(&number) {
            self.numbers.pop_front();
        }
    }
}

/// Returns all statements, for the tests of their query plans and of their cost.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let user = &columns::submitter(0, String::new());
    let keys = [
        IndexKey::Ended,
        IndexKey::Submitter(user),
        IndexKey::Name(""),
        IndexKey::SubmitterName(user, ""),
        IndexKey::UserName(""),
        IndexKey::UserUid(0),
        IndexKey::Label("", ""),
    ];
    let both = |key: IndexKey<'_>| [key.scan_sql(), key.count_sql()];
    keys.into_iter().flat_map(both).collect()
}
