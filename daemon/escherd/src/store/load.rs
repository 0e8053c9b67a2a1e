//! What a new escherd begins with, read from the file.

use escher_protocol::message::Event;
use escher_protocol::{ExecutionId, ResourceLimits};
use rusqlite::Connection;

use super::checksum::{self, Kind};
use super::columns::{Progress, signed, unsigned};
use super::error::DatabaseError;
use super::totals::WriterState;
use super::{LoadedState, RequestDigest, UnfinishedExecution};
use crate::execution::Submission;

/// Reads everything that is not history, with the last `max_events` events.
pub(super) fn load(
    connection: &Connection,
    max_events: usize,
) -> Result<LoadedState, DatabaseError> {
    Ok(LoadedState {
        last_number: WriterState::read(connection)?.totals.last_number,
        unfinished: unfinished(connection)?,
        events: events(connection, max_events)?,
        undeleted_logs: undeleted_logs(connection)?,
    })
}

fn unfinished(connection: &Connection) -> Result<Vec<UnfinishedExecution>, DatabaseError> {
    let sql = "SELECT s.number, e.progress, s.body \
               FROM submission s LEFT JOIN execution e ON s.number = e.number ORDER BY s.number";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut unfinished = Vec::new();
    while let Some(row) = rows.next()? {
        let number = unsigned(row.get(0)?);
        let blob = |index, kind: Kind| -> Result<Vec<u8>, DatabaseError> {
            row.get::<_, Option<_>>(index)?.ok_or(kind.damaged(number))
        };
        let progress = blob(1, Kind::Progress)?;
        let progress: Progress = checksum::unwrap(Kind::Progress, number, &progress)?;
        let body = blob(2, Kind::Submission)?;
        let (_, mut submission, limits): (Option<RequestDigest>, Submission, ResourceLimits) =
            checksum::unwrap(Kind::Submission, number, &body)?;
        submission.limits = limits;
        unfinished.push(UnfinishedExecution {
            submission,
            launching: progress.launching,
            started: progress.started,
            cancel: progress.cancel,
        });
    }
    Ok(unfinished)
}

fn events(connection: &Connection, kept: usize) -> Result<Vec<Event>, DatabaseError> {
    let sql = "SELECT sequence, body FROM event ORDER BY sequence DESC LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([signed(kept as u64)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let sequence = unsigned(row.get(0)?);
        let body: Vec<u8> = row.get(1)?;
        events.push(checksum::unwrap(Kind::Event, sequence, &body)?);
    }
    events.reverse();
    Ok(events)
}

fn undeleted_logs(connection: &Connection) -> Result<Vec<ExecutionId>, DatabaseError> {
    let mut statement = connection.prepare("SELECT id, checksum FROM undeleted_log")?;
    let mut rows = statement.query([])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, found): ([u8; 16], Vec<u8>) = (row.get(0)?, row.get(1)?);
        ids.push(checked_id(id, &found)?);
    }
    Ok(ids)
}

/// An id whose log is to be deleted: the one place where a wrong bit would delete somebody's output.
pub(super) fn checked_id(id: [u8; 16], found: &[u8]) -> Result<ExecutionId, DatabaseError> {
    if *found == checksum::seal(Kind::Undeleted, 0, &id) {
        Ok(ExecutionId::from_bytes(id))
    } else {
        Err(Kind::Undeleted.damaged(0))
    }
}
