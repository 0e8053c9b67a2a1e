//! Finding one execution by number, id, name, or part of an id.

use escher_protocol::id::{MIN_ID_PART_DIGITS, parse_number};
use escher_protocol::{ApiError, ErrorCode, ExecutionId, ExecutionRecord, Target};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::checksum::BlobKind;
use super::columns::{self, signed, unsigned};
use super::error::DatabaseError;
use super::id_part::IdPart;
use super::query;
use super::readers::Snapshot;

/// How many candidates an `ambiguous` error lists.
const MAX_CANDIDATES: usize = 8;

/// An execution that [`Store::find`](super::Store::find) found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredExecution {
    /// Its id.
    pub id: ExecutionId,
    /// Its number.
    pub number: u64,
    /// Its record; `None` while it is unfinished.
    pub record: Option<Box<ExecutionRecord>>,
}

/// An execution that a target may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    number: u64,
    id: ExecutionId,
    is_finished: bool,
}

/// The columns of a [`Candidate`].
const CANDIDATE_COLUMNS: &str = "number, id, ended > 0";

impl Candidate {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Candidate {
            number: unsigned(row.get(0)?),
            id: ExecutionId::from_bytes(row.get(1)?),
            is_finished: row.get(2)?,
        })
    }
}

/// The result of a search for one execution.
pub(super) enum LookupResult {
    /// The execution, or `None` if there is none.
    Unique(Option<StoredExecution>),
    /// Several match.
    Ambiguous(ApiError),
}

/// Finds the execution that `target` means, among those of `submitter` or among all.
pub(super) fn find(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    target: &Target,
) -> Result<LookupResult, DatabaseError> {
    let candidate = match target {
        Target::Id(id) => find_by_id(snapshot, submitter, *id)?,
        Target::Reference(text) => match find_exact(snapshot, submitter, text)? {
            Some(candidate) => Some(candidate),
            None => match find_by_id_part(snapshot, submitter, text)?.as_slice() {
                [] => None,
                [only] => Some(*only),
                several => return Ok(LookupResult::Ambiguous(ambiguous(text, several))),
            },
        },
    };
    let Some(candidate) = candidate else {
        return Ok(LookupResult::Unique(None));
    };
    let record = if candidate.is_finished {
        Some(checked_record(snapshot, submitter, candidate)?)
    } else {
        None
    };
    Ok(LookupResult::Unique(Some(StoredExecution {
        id: candidate.id,
        number: candidate.number,
        record: record.map(Box::new),
    })))
}

/// Reads the record of a candidate, and checks that it belongs to it: damage to the row must not
/// show anybody the record of another.
fn checked_record(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    candidate: Candidate,
) -> Result<ExecutionRecord, DatabaseError> {
    let record = query::record(snapshot, candidate.number)?;
    let belongs = |record: &ExecutionRecord| {
        record.id == candidate.id
            && submitter.is_none_or(|submitter| record.submitted_by.uid == submitter)
    };
    record
        .filter(belongs)
        .ok_or(BlobKind::Record.damaged(candidate.number))
}

/// Finds an execution by its number, full UUID, or name; the newest of a name.
fn find_exact(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    text: &str,
) -> Result<Option<Candidate>, DatabaseError> {
    if let Some(number) = parse_number(text)
        && let Some(candidate) = find_by_number(snapshot, submitter, number)?
    {
        return Ok(Some(candidate));
    }
    if let Ok(id) = text.parse()
        && let Some(candidate) = find_by_id(snapshot, submitter, id)?
    {
        return Ok(Some(candidate));
    }
    find_by_name(snapshot, submitter, text)
}

fn find_by_number(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    number: u64,
) -> Result<Option<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&number_sql())?;
    let found = statement.query_row(params![signed(number), submitter], Candidate::read);
    Ok(found.optional()?)
}

fn find_by_id(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    id: ExecutionId,
) -> Result<Option<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&id_sql())?;
    let found = statement.query_row(params![id.into_bytes(), submitter], Candidate::read);
    Ok(found.optional()?)
}

fn find_by_name(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    name: &str,
) -> Result<Option<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&name_sql(submitter))?;
    let mut newest = None;
    for ended in std::iter::once(0).chain(columns::ended_codes()) {
        let mut values = vec![Value::Text(name.to_owned()), ended.into()];
        values.extend(submitter.map(Value::from));
        let found = statement.query_row(params_from_iter(values), Candidate::read);
        newest = newest.max(found.optional()?);
    }
    Ok(newest)
}

/// Finds the executions whose id begins or ends with `text`, in the order of their numbers. At most
/// as many are returned as an error lists.
fn find_by_id_part(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    text: &str,
) -> Result<Vec<Candidate>, DatabaseError> {
    let Some(part) = IdPart::parse(text, MIN_ID_PART_DIGITS) else {
        return Ok(Vec::new());
    };
    let mut candidates = Vec::new();
    if let Some((low, high)) = part.head_range() {
        let range = [Value::Blob(low.to_vec()), Value::Blob(high.to_vec())];
        let sql = head_sql(submitter);
        candidates.extend(in_range(snapshot, submitter, &sql, range, |_| true)?);
    }
    if let Some((low, high)) = part.tail_range() {
        let range = [low.into(), high.into()];
        let sql = tail_sql(submitter);
        let has_tail = |candidate: &Candidate| part.is_tail_of(candidate.id);
        candidates.extend(in_range(snapshot, submitter, &sql, range, has_tail)?);
    }
    candidates.sort_unstable();
    candidates.dedup();
    candidates.truncate(MAX_CANDIDATES);
    Ok(candidates)
}

/// Returns at most [`MAX_CANDIDATES`] rows of `sql` that satisfy `predicate`.
fn in_range(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    sql: &str,
    range: [Value; 2],
    predicate: impl Fn(&Candidate) -> bool,
) -> Result<Vec<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(sql)?;
    let values = range.into_iter().chain(submitter.map(Value::from));
    let mut rows = statement.query(params_from_iter(values))?;
    let mut candidates = Vec::new();
    while candidates.len() < MAX_CANDIDATES
        && let Some(row) = rows.next()?
    {
        let candidate = Candidate::read(row)?;
        if predicate(&candidate) {
            candidates.push(candidate);
        }
    }
    Ok(candidates)
}

fn number_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution \
         WHERE number = ?1 AND (?2 IS NULL OR submitter_uid = ?2)"
    )
}

fn id_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution \
         WHERE id = ?1 AND (?2 IS NULL OR submitter_uid = ?2)"
    )
}

/// Finds the newest execution of a name and a value of `ended`.
fn name_sql(submitter: Option<u32>) -> String {
    let (index, and_submitter) = match submitter {
        None => ("execution_name", ""),
        Some(_) => ("execution_submitter_name", AND_SUBMITTER),
    };
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution INDEXED BY {index} \
         WHERE name = ?1 AND ended = ?2{and_submitter} ORDER BY number DESC LIMIT 1"
    )
}

/// Finds ids in a range. People seldom type a head, which is a time, so an index that begins with
/// the submitter would not be worth its cost to every submission.
fn head_sql(submitter: Option<u32>) -> String {
    let and_submitter = submitter.map_or("", |_| AND_SUBMITTER);
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution INDEXED BY sqlite_autoindex_execution_1 \
         WHERE id BETWEEN ?1 AND ?2{and_submitter} ORDER BY id"
    )
}

/// Finds tails in a range. Even the shortest tail is rare, so no index that begins with the
/// submitter is needed.
fn tail_sql(submitter: Option<u32>) -> String {
    let and_submitter = submitter.map_or("", |_| AND_SUBMITTER);
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution INDEXED BY execution_tail \
         WHERE tail BETWEEN ?1 AND ?2{and_submitter} ORDER BY tail"
    )
}

const AND_SUBMITTER: &str = " AND submitter_uid = ?3";

fn ambiguous(text: &str, candidates: &[Candidate]) -> ApiError {
    let listed: Vec<String> = candidates
        .iter()
        .map(|candidate| format!("{} ({})", candidate.number, candidate.id))
        .collect();
    let text = text.to_ascii_lowercase();
    let message = format!("{text:?} matches several executions: {}", listed.join(", "));
    ApiError::new(ErrorCode::AMBIGUOUS, message).with_hint("use the number, or more digits")
}

/// Returns the statements of [`find`], for the test of their query plans.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let for_scope = |submitter| {
        [
            name_sql(submitter),
            head_sql(submitter),
            tail_sql(submitter),
        ]
    };
    let scoped = [None, Some(0)].into_iter().flat_map(for_scope);
    scoped.chain([number_sql(), id_sql()]).collect()
}
