//! How finished executions are looked for.
//!
//! Each index ends in the number, so a list is read backwards from one of them: that of the condition which
//! fewest executions meet, once for each state. What the index does not decide, the row does. So nothing is ever
//! sorted, and hardly anything looked at that is not in the answer.

use escher_protocol::message::{ListFilter, Selection};
use escher_protocol::{Text, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::columns;
use super::error::DatabaseError;

/// Executions up to which those that meet a condition are counted to find the narrowest. Counting them takes
/// some tens of microseconds.
const MAX_COUNTED: i64 = 1000;

/// One way through an index, backwards: a statement, and its values but for the last three (numbers above,
/// numbers below, how many).
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

/// The condition whose index is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The name, and the submitter if there is one.
    Name,
    /// The label at this place of the filter.
    Label(usize),
    /// The user.
    User,
    /// The submitter if there is one; else only the state.
    Rest,
}

/// What a user is called by in an index.
#[derive(Debug, Clone, Copy)]
enum Called<'a> {
    Name(&'a Text),
    Uid(u32),
}

/// The walks that together find everything.
pub(super) fn walks(
    connection: &Connection,
    of: Option<u32>,
    selection: &Selection,
) -> Result<Vec<Walk>, DatabaseError> {
    let by = narrowest(connection, of, &selection.filter)?;
    Ok(walks_by(by, of, selection))
}

fn walks_by(by: By, of: Option<u32>, selection: &Selection) -> Vec<Walk> {
    let filter = &selection.filter;
    let called: Vec<Option<Called<'_>>> = match by {
        By::User => called(filter).map(Some).collect(),
        _ => vec![None],
    };
    let each = |state| {
        let walks = called.iter();
        walks.map(move |called| walk(by, *called, state, of, selection))
    };
    states(filter).into_iter().flat_map(each).collect()
}

/// The conditions that have an index, those that are narrow as a rule first.
fn ways(of: Option<u32>, filter: &ListFilter) -> Vec<By> {
    let name = filter.name.iter().map(|_| By::Name);
    let labels = (0..filter.labels.len()).map(By::Label);
    let user = filter.user.iter().map(|_| By::User);
    let mut ways: Vec<By> = name.chain(labels).chain(user).collect();
    if of.is_some() || ways.is_empty() {
        ways.push(By::Rest);
    }
    ways
}

/// The one that fewest executions meet, as far as they are counted.
fn narrowest(
    connection: &Connection,
    of: Option<u32>,
    filter: &ListFilter,
) -> Result<By, DatabaseError> {
    let ways = ways(of, filter);
    let (mut best, mut fewest) = (By::Rest, i64::MAX);
    for by in &ways {
        let mut count = 0;
        if ways.len() > 1 {
            for (sql, values) in counts(*by, of, filter) {
                let mut statement = connection.prepare_cached(&sql)?;
                let counted = statement.query_row(params_from_iter(values), |row| row.get(0));
                count += counted.map(|counted: i64| counted)?;
            }
        }
        if count < fewest {
            (best, fewest) = (*by, count);
        }
    }
    Ok(best)
}

/// Statements that count the executions which meet a condition, and have one of the states if some are given.
fn counts(by: By, of: Option<u32>, filter: &ListFilter) -> Vec<(String, Vec<Value>)> {
    let text = |text: &Text| Value::Text(text.to_string());
    let name = filter.name.iter().map(text);
    let (table, met) = match by {
        By::Name => match of {
            None => (
                "execution",
                vec![("execution_name", "name = ?", name.collect())],
            ),
            Some(of) => {
                let values: Vec<Value> = name.chain([of.into()]).collect();
                let condition = "name = ? AND submitter_uid = ?";
                (
                    "execution",
                    vec![("execution_submitter_name", condition, values)],
                )
            }
        },
        By::Label(place) => {
            let label = filter.labels.get(place).into_iter();
            let values = label.flat_map(|(key, value)| [text(key), text(value)]);
            let condition = "key = ? AND value = ?";
            ("label", vec![("label_ended", condition, values.collect())])
        }
        By::User => {
            let each = called(filter).map(|called| match called {
                Called::Name(name) => ("execution_user_name", "user_name = ?", vec![text(name)]),
                Called::Uid(uid) => ("execution_user_uid", "user_uid = ?", vec![uid.into()]),
            });
            ("execution", each.collect())
        }
        By::Rest => {
            let each = of.map(|of| ("execution_submitter", "submitter_uid = ?", vec![of.into()]));
            ("execution", each.into_iter().collect())
        }
    };
    let states = if filter.statuses.is_empty() {
        vec![None]
    } else {
        states(filter).into_iter().map(Some).collect()
    };
    let mut counts = Vec::new();
    for (index, condition, values) in met {
        for state in &states {
            let of_state = if state.is_some() {
                " AND ended = ?"
            } else {
                ""
            };
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM {table} INDEXED BY {index} \
                 WHERE ended > 0 AND {condition}{of_state} LIMIT {MAX_COUNTED})"
            );
            let state = state.map(Value::Integer);
            counts.push((sql, values.iter().cloned().chain(state).collect()));
        }
    }
    counts
}

/// The ends that `filter` asks for. Without `all` and without states it is about unfinished ones alone.
fn states(filter: &ListFilter) -> Vec<i64> {
    let mut states: Vec<i64> = match filter.statuses.as_slice() {
        [] if filter.all => columns::all_ended().collect(),
        statuses => statuses
            .iter()
            .copied()
            .filter_map(columns::ended)
            .collect(),
    };
    states.sort_unstable();
    states.dedup();
    states
}

/// Both things that the user of a filter may mean.
fn called(filter: &ListFilter) -> impl Iterator<Item = Called<'_>> {
    let user = filter.user.iter();
    user.flat_map(|user| {
        let uid = uid(user).map(Called::Uid);
        [Called::Name(user)].into_iter().chain(uid)
    })
}

/// A number that a user may be called by.
pub(super) fn uid(user: &Text) -> Option<u32> {
    let uid: u32 = user.parse().ok()?;
    (uid.to_string() == **user).then_some(uid)
}

/// Conditions of a statement, each with its values.
#[derive(Debug, Default)]
struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    fn demand(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }
}

fn walk(
    by: By,
    called: Option<Called<'_>>,
    state: i64,
    of: Option<u32>,
    selection: &Selection,
) -> Walk {
    let text = |text: &Text| Value::Text(text.to_string());
    let filter = &selection.filter;
    let mut conditions = Conditions::default();
    let (from, row) = match by {
        // The order of a CROSS JOIN is kept.
        By::Label(_) => (
            "label l INDEXED BY label_ended CROSS JOIN execution e ON e.number = l.number"
                .to_owned(),
            "l",
        ),
        _ => (
            format!("execution e INDEXED BY {}", index(by, called, of)),
            "e",
        ),
    };
    // All the indexes are restricted to this, but for those of names.
    conditions.demand(&format!("{row}.ended > 0"), []);
    conditions.demand(&format!("{row}.ended = ?"), [state.into()]);
    for (place, (key, value)) in filter.labels.iter().enumerate() {
        let values = [text(key), text(value)];
        if by == By::Label(place) {
            conditions.demand("l.key = ? AND l.value = ?", values)
        } else {
            conditions.demand(
            "EXISTS (SELECT 1 FROM label o WHERE o.number = e.number AND o.key = ? AND o.value = ?)",
            values,
        )
        }
    }
    match (called, &filter.user) {
        (Some(Called::Name(name)), _) => conditions.demand("e.user_name = ?", [text(name)]),
        (Some(Called::Uid(uid)), _) => conditions.demand("e.user_uid = ?", [uid.into()]),
        (None, Some(user)) => match uid(user) {
            None => conditions.demand("e.user_name = ?", [text(user)]),
            Some(uid) => {
                let values = [text(user), uid.into()];
                conditions.demand("(e.user_name = ? OR e.user_uid = ?)", values);
            }
        },
        (None, None) => {}
    }
    if let Some(of) = of {
        conditions.demand("e.submitter_uid = ?", [of.into()]);
    }
    if let Some(name) = &filter.name {
        conditions.demand("e.name = ?", [text(name)]);
    }
    if let Some(since) = selection.since.map(Timestamp::as_micros) {
        conditions.demand("e.submitted_at >= ?", [since.into()]);
    }
    if let Some(until) = selection.until.map(Timestamp::as_micros) {
        conditions.demand("e.submitted_at < ?", [until.into()]);
    }
    conditions.demand(&format!("{row}.number > ? AND {row}.number < ?"), []);
    let conditions_sql = conditions.sql.trim_start_matches(" AND ");
    let sql = format!(
        "SELECT {row}.number FROM {from} WHERE {conditions_sql} ORDER BY {row}.number DESC LIMIT ?"
    );
    Walk {
        sql,
        values: conditions.values,
    }
}

fn index(by: By, called: Option<Called<'_>>, of: Option<u32>) -> &'static str {
    match (by, called, of) {
        (_, Some(Called::Name(_)), _) => "execution_user_name",
        (_, Some(Called::Uid(_)), _) => "execution_user_uid",
        (By::Name, _, None) => "execution_name",
        (By::Name, _, Some(_)) => "execution_submitter_name",
        (By::Label(_), ..) => "label_ended",
        (By::User | By::Rest, _, Some(_)) => "execution_submitter",
        (By::User | By::Rest, _, None) => "execution_ended",
    }
}

/// All statements that may be used for a selection, to see how SQLite goes about them.
#[cfg(test)]
pub(super) fn statements(of: Option<u32>, selection: &Selection) -> Vec<String> {
    let ways = ways(of, &selection.filter).into_iter();
    ways.flat_map(|by| {
        let counts = counts(by, of, &selection.filter)
            .into_iter()
            .map(|count| count.0);
        let walks = walks_by(by, of, selection).into_iter().map(|walk| walk.sql);
        walks.chain(counts).collect::<Vec<_>>()
    })
    .collect()
}
