//! Diagnostic one execution by what people call it.

use escher_protocol::id::{MIN_FRAGMENT_DIGITS, parse_number};
use escher_protocol::{ApiError, ErrorCode, ExecutionId, Target};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::StoredExecution;
use super::checksum::Kind;
use super::columns::{self, signed, unsigned};
use super::error::DatabaseError;
use super::id_prefix::Fragment;
use super::query;
use super::readers::Snapshot;

/// Most candidates that an error names.
const MAX_CANDIDATES: usize = 8;

/// An execution as the tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    number: u64,
    id: ExecutionId,
    is_finished: bool,
}

/// The columns of a [`Place`].
const PLACE: &str = "number, id, ended > 0";

impl Place {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Place {
            number: unsigned(row.get(0)?),
            id: ExecutionId::from_bytes(row.get(1)?),
            is_finished: row.get(2)?,
        })
    }
}

/// What a look for one execution has come to.
pub(super) enum Lookup {
    /// It, or that there is none.
    Of(Option<StoredExecution>),
    /// Several fit.
    Ambiguous(ApiError),
}

/// The execution that `target` means among those that `of` has submitted, or among all.
pub(super) fn find(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    target: &Target,
) -> Result<Lookup, DatabaseError> {
    let place = match target {
        Target::Id(id) => by_id(snapshot, of, *id)?,
        Target::Reference(text) => match by_exact(snapshot, of, text)? {
            Some(place) => Some(place),
            None => match by_fragment(snapshot, of, text)?.as_slice() {
                [] => None,
                [only] => Some(*only),
                several => return Ok(Lookup::Ambiguous(ambiguous(text, several))),
            },
        },
    };
    let Some(place) = place else {
        return Ok(Lookup::Of(None));
    };
    let record = if place.is_finished {
        Some(checked_record(snapshot, of, place)?)
    } else {
        None
    };
    Ok(Lookup::Of(Some(StoredExecution {
        id: place.id,
        number: place.number,
        record: record.map(Box::new),
    })))
}

/// The record in its place, if it is the one that belongs there.
fn checked_record(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    place: Place,
) -> Result<escher_protocol::ExecutionRecord, DatabaseError> {
    let record = query::record(snapshot, place.number)?;
    let belongs = |record: &escher_protocol::ExecutionRecord| {
        record.id == place.id && of.is_none_or(|of| record.submitted_by.uid == of)
    };
    record
        .filter(belongs)
        .ok_or(Kind::Record.damaged(place.number))
}

fn by_number(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    number: u64,
) -> Result<Option<Place>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&numbered())?;
    let found = statement.query_row(params![signed(number), of], Place::read);
    Ok(found.optional()?)
}

fn by_id(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    id: ExecutionId,
) -> Result<Option<Place>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&identified())?;
    let found = statement.query_row(params![id.into_bytes(), of], Place::read);
    Ok(found.optional()?)
}

/// A number, a full UUID, or a name (the newest execution that bears it).
fn by_exact(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    text: &str,
) -> Result<Option<Place>, DatabaseError> {
    if let Some(number) = parse_number(text)
        && let Some(place) = by_number(snapshot, of, number)?
    {
        return Ok(Some(place));
    }
    if let Ok(id) = text.parse()
        && let Some(place) = by_id(snapshot, of, id)?
    {
        return Ok(Some(place));
    }
    by_name(snapshot, of, text)
}

fn by_name(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    name: &str,
) -> Result<Option<Place>, DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(&named(of))?;
    let mut newest = None;
    for ended in std::iter::once(0).chain(columns::all_ended()) {
        let mut values = vec![Value::Text(name.to_owned()), ended.into()];
        values.extend(of.map(Value::from));
        let found = statement.query_row(params_from_iter(values), Place::read);
        newest = newest.max(found.optional()?);
    }
    Ok(newest)
}

fn numbered() -> String {
    format!(
        "SELECT {PLACE} FROM execution WHERE number = ?1 AND (?2 IS NULL OR submitter_uid = ?2)"
    )
}

fn identified() -> String {
    format!("SELECT {PLACE} FROM execution WHERE id = ?1 AND (?2 IS NULL OR submitter_uid = ?2)")
}

/// The newest of a name and a state.
fn named(of: Option<u32>) -> String {
    let (index, condition) = match of {
        None => ("execution_name", ""),
        Some(_) => ("execution_submitter_name", " AND submitter_uid = ?3"),
    };
    format!(
        "SELECT {PLACE} FROM execution INDEXED BY {index} WHERE name = ?1 AND ended = ?2{condition} \
         ORDER BY number DESC LIMIT 1"
    )
}

/// Executions whose id begins or ends so, by number; not all where there are more than an error names.
fn by_fragment(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    text: &str,
) -> Result<Vec<Place>, DatabaseError> {
    let Some(fragment) = Fragment::parse(text, MIN_FRAGMENT_DIGITS) else {
        return Ok(Vec::new());
    };
    let mut places = Vec::new();
    if let Some((low, high)) = fragment.head_range() {
        let range = [Value::Blob(low.to_vec()), Value::Blob(high.to_vec())];
        candidates(snapshot, of, &heads(of), range, |_| true, &mut places)?;
    }
    if let Some((low, high)) = fragment.tail_range() {
        let range = [low.into(), high.into()];
        let is_whole = |place: &Place| fragment.is_tail_of(place.id);
        candidates(snapshot, of, &tails(of), range, is_whole, &mut places)?;
    }
    places.sort_unstable();
    places.dedup();
    places.truncate(MAX_CANDIDATES);
    Ok(places)
}

fn candidates(
    snapshot: &Snapshot<'_>,
    of: Option<u32>,
    sql: &str,
    range: [Value; 2],
    fits: impl Fn(&Place) -> bool,
    places: &mut Vec<Place>,
) -> Result<(), DatabaseError> {
    let mut statement = snapshot.connection.prepare_cached(sql)?;
    let values = range.into_iter().chain(of.map(Value::from));
    let mut rows = statement.query(params_from_iter(values))?;
    let mut room = MAX_CANDIDATES;
    while room > 0
        && let Some(row) = rows.next()?
    {
        let place = Place::read(row)?;
        if fits(&place) {
            places.push(place);
            room -= 1;
        }
    }
    Ok(())
}

/// Ids in a range. Heads are times: what people type is a tail, and an index for each submitter would cost
/// every submission.
fn heads(of: Option<u32>) -> String {
    let condition = match of {
        None => "",
        Some(_) => " AND submitter_uid = ?3",
    };
    format!(
        "SELECT {PLACE} FROM execution INDEXED BY sqlite_autoindex_execution_1 \
         WHERE id BETWEEN ?1 AND ?2{condition} ORDER BY id"
    )
}

/// Tails in a range. Even the shortest has few, so no index is needed for each submitter.
fn tails(of: Option<u32>) -> String {
    let condition = match of {
        None => "",
        Some(_) => " AND submitter_uid = ?3",
    };
    format!(
        "SELECT {PLACE} FROM execution INDEXED BY execution_tail \
         WHERE tail BETWEEN ?1 AND ?2{condition} ORDER BY tail"
    )
}

fn ambiguous(text: &str, places: &[Place]) -> ApiError {
    let named: Vec<String> = places
        .iter()
        .map(|place| format!("{} ({})", place.number, place.id))
        .collect();
    let text = text.to_ascii_lowercase();
    let message = format!("{text:?} fits several executions: {}", named.join(", "));
    ApiError::new(ErrorCode::AMBIGUOUS, message).with_hint("use the number, or more digits")
}

/// The statements that [`find`] uses, to see how SQLite goes about them.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let each = |of| [named(of), heads(of), tails(of)];
    let scoped = [None, Some(0)].into_iter().flat_map(each);
    scoped.chain([numbered(), identified()]).collect()
}
