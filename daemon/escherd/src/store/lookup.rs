//! Finding one execution by number, id, name, or part of an id.

use escher_protocol::id::{MIN_ID_PART_DIGITS, parse_number};
use escher_protocol::{ApiError, ErrorCode, ExecutionId, ExecutionRecord, Target, User};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::checksum::BlobKind;
use super::columns::{self, signed, unsigned};
use super::error::DatabaseError;
use super::id_part::IdPart;
use super::readers::Snapshot;
use super::stored_record;

/// How many candidates an `ambiguous` error lists.
const MAX_CANDIDATES: usize = 8;

/// Maximum number of ids with a common part that are read to find one submitter's among them, which takes some
/// milliseconds. Beyond it the search gives up.
const MAX_IDS: usize = 8192;

/// Fewest digits of a part of an id that looks like a name (`feed`) and means another user's execution. A caller
/// who means a name that is not in use must not get an execution whose id another user has brought about.
const MIN_DIGITS_LIKE_A_NAME: usize = 8;

/// Among whose executions to look.
#[derive(Debug, Clone)]
pub struct LookupScope {
    /// The submitter of those that may be found at all; `None`: all users.
    pub submitter: Option<User>,
    /// The submitter of those that may be found by name; `None`: nobody.
    pub names_of: Option<User>,
}

impl LookupScope {
    /// All executions, by number or id.
    pub const ALL: LookupScope = LookupScope {
        submitter: None,
        names_of: None,
    };
}

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

impl From<LookupResult> for Result<Option<StoredExecution>, ApiError> {
    fn from(result: LookupResult) -> Self {
        match result {
            LookupResult::Unique(found) => Ok(found),
            LookupResult::Ambiguous(error) => Err(error),
        }
    }
}

/// Finds the execution that `target` means. A reference is tried as a number, a full UUID, a name, and a part of a
/// UUID.
pub(super) fn find(
    snapshot: &Snapshot<'_>,
    scope: &LookupScope,
    target: &Target,
) -> Result<LookupResult, DatabaseError> {
    let submitter = scope.submitter.as_ref();
    let text = match target {
        Target::Id(id) => {
            let candidate = find_by_id(snapshot, submitter, *id)?;
            return unique(snapshot, submitter, candidate);
        }
        Target::Reference(text) => text,
    };
    let exact = find_by_number_or_id(snapshot, submitter, text)?;
    if exact.is_some() {
        return unique(snapshot, submitter, exact);
    }
    if let Some(owner) = &scope.names_of {
        match find_named(snapshot, owner, text)? {
            LookupResult::Unique(None) => {}
            found => return Ok(found),
        }
    }
    let submitter = if is_short_and_like_a_name(text) {
        submitter.or(scope.names_of.as_ref())
    } else {
        submitter
    };
    let search = find_by_id_part(snapshot, submitter, text)?;
    match search.candidates.as_slice() {
        several @ [_, _, ..] => Ok(LookupResult::Ambiguous(ambiguous_part(text, several))),
        _ if !search.is_complete => Ok(LookupResult::Ambiguous(too_short(text))),
        few => unique(snapshot, submitter, few.first().copied()),
    }
}

/// Finds the execution of `owner` that has this name: the one that is not over, else the newest.
pub(super) fn find_named(
    snapshot: &Snapshot<'_>,
    owner: &User,
    name: &str,
) -> Result<LookupResult, DatabaseError> {
    let candidate = match find_unfinished(snapshot, owner, name)?.as_slice() {
        [] => find_newest_finished(snapshot, owner, name)?,
        [only] => Some(*only),
        several => return Ok(LookupResult::Ambiguous(ambiguous_name(name, several))),
    };
    unique(snapshot, Some(owner), candidate)
}

/// Returns an execution with its record, if it has finished.
fn unique(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    candidate: Option<Candidate>,
) -> Result<LookupResult, DatabaseError> {
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
    submitter: Option<&User>,
    candidate: Candidate,
) -> Result<ExecutionRecord, DatabaseError> {
    let record = stored_record::read(snapshot, candidate.number)?;
    let belongs = |record: &ExecutionRecord| {
        record.id == candidate.id
            && submitter.is_none_or(|submitter| record.submitted_by == *submitter)
    };
    record
        .filter(belongs)
        .ok_or(BlobKind::Record.damaged(candidate.number))
}

fn is_short_and_like_a_name(text: &str) -> bool {
    text.starts_with(char::is_alphabetic) && IdPart::parse(text, MIN_DIGITS_LIKE_A_NAME).is_none()
}

/// Finds an execution by its number or full UUID.
fn find_by_number_or_id(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    text: &str,
) -> Result<Option<Candidate>, DatabaseError> {
    if let Some(number) = parse_number(text)
        && let Some(candidate) = find_by_number(snapshot, submitter, number)?
    {
        return Ok(Some(candidate));
    }
    match text.parse() {
        Ok(id) => find_by_id(snapshot, submitter, id),
        Err(_) => Ok(None),
    }
}

fn find_by_number(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    number: u64,
) -> Result<Option<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&number_sql())?;
    let found = statement.query_row(
        params![
            signed(number),
            submitter.map(|submitter| submitter.uid),
            submitter.map(columns::submitter_name)
        ],
        Candidate::read,
    );
    Ok(found.optional()?)
}

fn find_by_id(
    snapshot: &Snapshot<'_>,
    submitter: Option<&User>,
    id: ExecutionId,
) -> Result<Option<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&id_sql())?;
    let found = statement.query_row(
        params![
            id.into_bytes(),
            submitter.map(|submitter| submitter.uid),
            submitter.map(columns::submitter_name)
        ],
        Candidate::read,
    );
    Ok(found.optional()?)
}

/// Finds the unfinished executions of a name, in the order of their numbers. At most as many are returned as an error
/// lists.
fn find_unfinished(
    snapshot: &Snapshot<'_>,
    owner: &User,
    name: &str,
) -> Result<Vec<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&name_sql())?;
    let limit = signed(MAX_CANDIDATES as u64);
    let values = params![owner.uid, columns::submitter_name(owner), name, 0, limit];
    let found = statement.query_map(values, Candidate::read)?;
    let mut candidates = found.collect::<Result<Vec<_>, _>>()?;
    candidates.reverse();
    Ok(candidates)
}

fn find_newest_finished(
    snapshot: &Snapshot<'_>,
    owner: &User,
    name: &str,
) -> Result<Option<Candidate>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&name_sql())?;
    let mut newest = None;
    for ended in columns::ended_codes() {
        let values = params![owner.uid, columns::submitter_name(owner), name, ended, 1];
        let found = statement.query_row(values, Candidate::read);
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
    submitter: Option<&User>,
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
        submitter: Option<&User>,
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
            let by = columns::submitter(row.get(3)?, row.get(4)?);
            if submitter.is_none_or(|submitter| by == *submitter) && predicate(&candidate) {
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
         WHERE number = ?1 AND (?2 IS NULL OR (submitter_uid, submitter_name) = (?2, ?3))"
    )
}

fn id_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution \
         WHERE id = ?1 AND (?2 IS NULL OR (submitter_uid, submitter_name) = (?2, ?3))"
    )
}

/// Finds the newest executions of a user, a name and a value of `ended`.
fn name_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS} FROM execution INDEXED BY execution_submitter_name \
         WHERE submitter_uid = ?1 AND submitter_name = ?2 AND name = ?3 AND ended = ?4 \
         ORDER BY number DESC LIMIT ?5"
    )
}

/// Finds ids in a range, with their submitters. People seldom type a head, which is a time, so an
/// index that begins with the submitter would not be worth its cost to every submission.
fn head_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS}, submitter_uid, submitter_name \
         FROM execution INDEXED BY sqlite_autoindex_execution_1 \
         WHERE id BETWEEN ?1 AND ?2 ORDER BY id"
    )
}

/// Finds tails in a range, with their submitters. Even the shortest tail is rare, so no index that
/// begins with the submitter is needed.
fn tail_sql() -> String {
    format!(
        "SELECT {CANDIDATE_COLUMNS}, submitter_uid, submitter_name \
         FROM execution INDEXED BY execution_tail \
         WHERE tail BETWEEN ?1 AND ?2 ORDER BY tail"
    )
}

/// Returns the error for a part of an id that several ids have.
fn ambiguous_part(text: &str, candidates: &[Candidate]) -> ApiError {
    let (text, listed) = (text.to_ascii_lowercase(), list(candidates));
    let message = format!("{text:?} matches several executions: {listed}");
    ApiError::new(ErrorCode::AMBIGUOUS, message).with_hint("use the number, or more digits")
}

/// Returns the error for a name that several unfinished executions have.
fn ambiguous_name(name: &str, candidates: &[Candidate]) -> ApiError {
    let listed = list(candidates);
    let message = format!("{name:?} is the name of several unfinished executions: {listed}");
    ApiError::new(ErrorCode::AMBIGUOUS, message).with_hint("use the number")
}

fn list(candidates: &[Candidate]) -> String {
    let listed: Vec<String> = candidates
        .iter()
        .map(|candidate| format!("{} ({})", candidate.number, candidate.id))
        .collect();
    listed.join(", ")
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
    vec![number_sql(), id_sql(), name_sql(), head_sql(), tail_sql()]
}
