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

/// How many ids with a common part are read before the search for those of one submitter is given
/// up, which takes some milliseconds.
const MAX_IDS: usize = 8192;

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
            None => {
                let search = find_by_id_part(snapshot, submitter, text)?;
                match search.candidates.as_slice() {
                    several @ [_, _, ..] => {
                        return Ok(LookupResult::Ambiguous(ambiguous(text, several)));
                    }
                    _ if !search.is_complete => {
                        return Ok(LookupResult::Ambiguous(too_short(text)));
                    }
                    few => few.first().copied(),
                }
            }
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

/// What a search for a part of an id has found.
struct IdPartSearch {
    /// In the order of their numbers; at most as many as an error lists.
    candidates: Vec<Candidate>,
    /// Whether the search was not given up before its end.
    is_complete: bool,
}

/// Finds the executions whose id begins or ends with `text`.
fn find_by_id_part(
    snapshot: &Snapshot<'_>,
    submitter: Option<u32>,
    text: &str,
) -> Result<IdPartSearch, DatabaseError> {
    let mut search = IdPartSearch {
        candidates: Vec::new(),
        is_complete: true,
    };
    let Some(part) = IdPart::parse(text, MIN_ID_PART_DIGITS) else {
        return Ok(search);
    };
    if let Some((low, high)) = part.head_range() {
        let range = [Value::Blob(low.to_vec()), Value::Blob(high.to_vec())];
        let sql = head_sql();
        search.add_range(snapshot, submitter, &sql, range, |_| true)?;
    }
    if let Some((low, high)) = part.tail_range() {
        let range = [low.into(), high.into()];
        let sql = tail_sql();
        let has_tail = |candidate: &Candidate| part.is_tail_of(candidate.id);
        search.add_range(snapshot, submitter, &sql, range, has_tail)?;
    }
    search.candidates.sort_unstable();
    search.candidates.dedup();
    search.candidates.truncate(MAX_CANDIDATES);
    Ok(search)
}

impl IdPartSearch {
    /// Adds at most [`MAX_CANDIDATES`] rows of `sql` that `submitter` has submitted and that satisfy
    /// `predicate`. Gives up after [`MAX_IDS`].
    fn add_range(
        &mut self,
        snapshot: &Snapshot<'_>,
        submitter: Option<u32>,
        sql: &str,
        range: [Value; 2],
        predicate: impl Fn(&Candidate) -> bool,
    ) -> Result<(), DatabaseError> {
        let mut statement = snapshot.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(range))?;
        let (mut found, mut read) = (0, 0);
        while found < MAX_CANDIDATES
            && let Some(row) = rows.next()?
        {
            if read == MAX_IDS {
                self.is_complete = false;
                break;
            }
            read += 1;
            let candidate = Candidate::read(row)?;
            let by: u32 = row.get(3)?;
            if submitter.is_none_or(|submitter| by == submitter) && predicate(&candidate) {
                self.candidates.push(candidate);
                found += 1;
            }
        }
        Ok(())
    }
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
        Some(_) => ("execution_submitter_name", " AND submitter_uid = ?3"),
    };
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution INDEXED BY {index} \
         WHERE name = ?1 AND ended = ?2{and_submitter} ORDER BY number DESC LIMIT 1"
    )
}

/// Finds ids in a range, with their submitters. People seldom type a head, which is a time, so an
/// index that begins with the submitter would not be worth its cost to every submission.
fn head_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS}, submitter_uid \
         FROM execution INDEXED BY sqlite_autoindex_execution_1 \
         WHERE id BETWEEN ?1 AND ?2 ORDER BY id"
    )
}

/// Finds tails in a range, with their submitters. Even the shortest tail is rare, so no index that
/// begins with the submitter is needed.
fn tail_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS}, submitter_uid FROM execution INDEXED BY execution_tail \
         WHERE tail BETWEEN ?1 AND ?2 ORDER BY tail"
    )
}

fn ambiguous(text: &str, candidates: &[Candidate]) -> ApiError {
    let listed: Vec<String> = candidates
        .iter()
        .map(|candidate| format!("{} ({})", candidate.number, candidate.id))
        .collect();
    let text = text.to_ascii_lowercase();
    let message = format!("{text:?} matches several executions: {}", listed.join(", "));
    ApiError::new(ErrorCode::AMBIGUOUS, message).with_hint("use the number, or more digits")
}

/// Returns the error for a part of an id that too many ids have.
fn too_short(text: &str) -> ApiError {
    let text = text.to_ascii_lowercase();
    let message = format!("{text:?} is a part of too many ids to search all of them");
    ApiError::new(ErrorCode::AMBIGUOUS, message).with_hint("use the number, or more digits")
}

/// Returns the statements of [`find`], for the test of their query plans.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    vec![
        number_sql(),
        id_sql(),
        name_sql(None),
        name_sql(Some(0)),
        head_sql(),
        tail_sql(),
    ]
}
