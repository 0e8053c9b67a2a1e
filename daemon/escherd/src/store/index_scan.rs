//! The choice of an index for a list of finished executions.
//!
//! Each index ends in the number, so a list is read backwards from the index of one condition, that
//! which the fewest executions meet, once for each status. The other conditions are checked row by
//! row. So nothing is ever sorted, and few rows are read that are not in the answer.
//!
//! SQLite's own choice was measured on 200,000 executions and is worse. After `ANALYZE`, with
//! histograms, it reads and sorts all executions with a common label (110 ms for a page that takes
//! 0.4 ms here). Without current statistics it reads the whole history for a rare label (150 ms,
//! here 0.2 ms). Both times grow with the history, and `ANALYZE` holds up commits. Counting up to a
//! bound is exact and needs no upkeep.

use escher_protocol::message::{ListFilter, Selection};
use escher_protocol::{Text, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::columns;
use super::error::DatabaseError;

/// The count at which counting stops when conditions are compared. Reaching it takes some tens of
/// microseconds.
const MAX_COUNT: i64 = 1000;

/// A backward scan of one index: a statement and its values, except the last three (the numbers
/// above and below which to search, and the limit).
#[derive(Debug)]
pub(super) struct IndexScan {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

/// The condition whose index is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IndexedCondition {
    /// The name, and the submitter if one is given.
    Name,
    /// The label at this position in the filter.
    Label(usize),
    /// The user.
    User,
    /// The submitter if one is given; else the status alone.
    Submitter,
}

/// A value by which an index has the user.
#[derive(Debug, Clone, Copy)]
enum UserKey<'a> {
    Name(&'a Text),
    Uid(u32),
}

/// Returns the scans that together find all matches.
pub(super) fn index_scans(
    connection: &Connection,
    submitter: Option<u32>,
    selection: &Selection,
) -> Result<Vec<IndexScan>, DatabaseError> {
    let condition = most_selective(connection, submitter, &selection.filter)?;
    Ok(scans_of(condition, submitter, selection))
}

fn scans_of(
    condition: IndexedCondition,
    submitter: Option<u32>,
    selection: &Selection,
) -> Vec<IndexScan> {
    let filter = &selection.filter;
    let user_keys: Vec<Option<UserKey<'_>>> = match condition {
        IndexedCondition::User => user_keys(filter).map(Some).collect(),
        _ => vec![None],
    };
    let scans_for = |ended| {
        let keys = user_keys.iter();
        keys.map(move |key| scan(condition, *key, ended, submitter, selection))
    };
    ended_codes(filter)
        .into_iter()
        .flat_map(scans_for)
        .collect()
}

/// Returns the conditions that have an index, the usually most selective ones first.
fn indexed_conditions(submitter: Option<u32>, filter: &ListFilter) -> Vec<IndexedCondition> {
    let name = filter.name.iter().map(|_| IndexedCondition::Name);
    let labels = (0..filter.labels.len()).map(IndexedCondition::Label);
    let user = filter.user.iter().map(|_| IndexedCondition::User);
    let mut conditions: Vec<_> = name.chain(labels).chain(user).collect();
    if submitter.is_some() || conditions.is_empty() {
        conditions.push(IndexedCondition::Submitter);
    }
    conditions
}

/// Returns the condition that the fewest executions meet, as far as they are counted.
fn most_selective(
    connection: &Connection,
    submitter: Option<u32>,
    filter: &ListFilter,
) -> Result<IndexedCondition, DatabaseError> {
    let conditions = indexed_conditions(submitter, filter);
    let (mut best, mut fewest) = (IndexedCondition::Submitter, i64::MAX);
    for condition in &conditions {
        let mut count = 0;
        if conditions.len() > 1 {
            for (sql, values) in count_statements(*condition, submitter, filter) {
                let mut statement = connection.prepare_cached(&sql)?;
                let counted = statement.query_row(params_from_iter(values), |row| row.get(0));
                count += counted.map(|counted: i64| counted)?;
            }
        }
        if count < fewest {
            (best, fewest) = (*condition, count);
        }
    }
    Ok(best)
}

/// Returns statements that count the executions which meet `condition`, of the statuses in the
/// filter if it has any.
fn count_statements(
    condition: IndexedCondition,
    submitter: Option<u32>,
    filter: &ListFilter,
) -> Vec<(String, Vec<Value>)> {
    let text = |text: &Text| Value::Text(text.to_string());
    let name = filter.name.iter().map(text);
    let (table, searches) = match condition {
        IndexedCondition::Name => match submitter {
            None => (
                "execution",
                vec![("execution_name", "name = ?", name.collect())],
            ),
            Some(submitter) => {
                let values: Vec<Value> = name.chain([submitter.into()]).collect();
                let sql = "name = ? AND submitter_uid = ?";
                ("execution", vec![("execution_submitter_name", sql, values)])
            }
        },
        IndexedCondition::Label(position) => {
            let label = filter.labels.get(position).into_iter();
            let values = label.flat_map(|(key, value)| [text(key), text(value)]);
            let sql = "key = ? AND value = ?";
            ("label", vec![("label_ended", sql, values.collect())])
        }
        IndexedCondition::User => {
            let searches = user_keys(filter).map(|key| match key {
                UserKey::Name(name) => ("execution_user_name", "user_name = ?", vec![text(name)]),
                UserKey::Uid(uid) => ("execution_user_uid", "user_uid = ?", vec![uid.into()]),
            });
            ("execution", searches.collect())
        }
        IndexedCondition::Submitter => {
            let searches = submitter.map(|submitter| {
                (
                    "execution_submitter",
                    "submitter_uid = ?",
                    vec![submitter.into()],
                )
            });
            ("execution", searches.into_iter().collect())
        }
    };
    let ended = if filter.statuses.is_empty() {
        vec![None]
    } else {
        ended_codes(filter).into_iter().map(Some).collect()
    };
    let mut statements = Vec::new();
    for (index, sql, values) in searches {
        for code in &ended {
            let and_ended = if code.is_some() { " AND ended = ?" } else { "" };
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM {table} INDEXED BY {index} \
                 WHERE ended > 0 AND {sql}{and_ended} LIMIT {MAX_COUNT})"
            );
            let code = code.map(Value::Integer);
            statements.push((sql, values.iter().cloned().chain(code).collect()));
        }
    }
    statements
}

/// Returns the values of `ended` that match the filter. Without `all` and without statuses it
/// matches unfinished executions only.
fn ended_codes(filter: &ListFilter) -> Vec<i64> {
    let mut codes: Vec<i64> = match filter.statuses.as_slice() {
        [] if filter.all => columns::ended_codes().collect(),
        statuses => statuses
            .iter()
            .copied()
            .filter_map(columns::ended_code)
            .collect(),
    };
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Returns what the user of a filter can mean: a name, and a uid if it is a number.
fn user_keys(filter: &ListFilter) -> impl Iterator<Item = UserKey<'_>> {
    let user = filter.user.iter();
    user.flat_map(|user| {
        let uid = parse_uid(user).map(UserKey::Uid);
        [UserKey::Name(user)].into_iter().chain(uid)
    })
}

/// Parses the uid that a user may be given as.
pub(super) fn parse_uid(user: &Text) -> Option<u32> {
    let uid: u32 = user.parse().ok()?;
    (uid.to_string() == **user).then_some(uid)
}

/// The conditions of a statement with their values.
#[derive(Debug, Default)]
struct WhereClause {
    sql: String,
    values: Vec<Value>,
}

impl WhereClause {
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(condition);
        self.values.extend(values);
    }
}

fn scan(
    condition: IndexedCondition,
    user_key: Option<UserKey<'_>>,
    ended: i64,
    submitter: Option<u32>,
    selection: &Selection,
) -> IndexScan {
    let text = |text: &Text| Value::Text(text.to_string());
    let filter = &selection.filter;
    let mut clause = WhereClause::default();
    let (from, row) = match condition {
        // The order of a CROSS JOIN is kept.
        IndexedCondition::Label(_) => (
            "label l INDEXED BY label_ended CROSS JOIN execution e ON e.number = l.number"
                .to_owned(),
            "l",
        ),
        _ => {
            let index = execution_index(condition, user_key, submitter);
            (format!("execution e INDEXED BY {index}"), "e")
        }
    };
    // All the partial indexes but those of names require this.
    clause.and(&format!("{row}.ended > 0"), []);
    clause.and(&format!("{row}.ended = ?"), [ended.into()]);
    for (position, (key, value)) in filter.labels.iter().enumerate() {
        let sql = if condition == IndexedCondition::Label(position) {
            "l.key = ? AND l.value = ?"
        } else {
            "EXISTS (SELECT 1 FROM label o WHERE o.number = e.number AND o.key = ? AND o.value = ?)"
        };
        clause.and(sql, [text(key), text(value)]);
    }
    match (user_key, &filter.user) {
        (Some(UserKey::Name(name)), _) => clause.and("e.user_name = ?", [text(name)]),
        (Some(UserKey::Uid(uid)), _) => clause.and("e.user_uid = ?", [uid.into()]),
        (None, Some(user)) => match parse_uid(user) {
            None => clause.and("e.user_name = ?", [text(user)]),
            Some(uid) => {
                let values = [text(user), uid.into()];
                clause.and("(e.user_name = ? OR e.user_uid = ?)", values);
            }
        },
        (None, None) => {}
    }
    if let Some(submitter) = submitter {
        clause.and("e.submitter_uid = ?", [submitter.into()]);
    }
    if let Some(name) = &filter.name {
        clause.and("e.name = ?", [text(name)]);
    }
    if let Some(since) = selection.since.map(Timestamp::as_micros) {
        clause.and("e.submitted_at >= ?", [since.into()]);
    }
    if let Some(until) = selection.until.map(Timestamp::as_micros) {
        clause.and("e.submitted_at < ?", [until.into()]);
    }
    clause.and(&format!("{row}.number > ? AND {row}.number < ?"), []);
    let WhereClause { sql, values } = clause;
    let sql =
        format!("SELECT {row}.number FROM {from} WHERE {sql} ORDER BY {row}.number DESC LIMIT ?");
    IndexScan { sql, values }
}

/// Returns the index of the table `execution` for a condition.
fn execution_index(
    condition: IndexedCondition,
    user_key: Option<UserKey<'_>>,
    submitter: Option<u32>,
) -> &'static str {
    match (condition, user_key, submitter) {
        (_, Some(UserKey::Name(_)), _) => "execution_user_name",
        (_, Some(UserKey::Uid(_)), _) => "execution_user_uid",
        (IndexedCondition::Name, _, None) => "execution_name",
        (IndexedCondition::Name, _, Some(_)) => "execution_submitter_name",
        (_, _, Some(_)) => "execution_submitter",
        (_, _, None) => "execution_ended",
    }
}

/// Returns all statements that a selection may lead to, for the test of their query plans.
#[cfg(test)]
pub(super) fn statements(submitter: Option<u32>, selection: &Selection) -> Vec<String> {
    let conditions = indexed_conditions(submitter, &selection.filter).into_iter();
    conditions
        .flat_map(|condition| {
            let counts = count_statements(condition, submitter, &selection.filter);
            let scans = scans_of(condition, submitter, selection).into_iter();
            let counts = counts.into_iter().map(|count| count.0);
            scans.map(|scan| scan.sql).chain(counts).collect::<Vec<_>>()
        })
        .collect()
}
