//! What is read from a store when it is opened.

use std::collections::{BTreeMap, HashMap};

use escher_protocol::message::Event;
use escher_protocol::{ExecutionId, codec};
use rusqlite::Connection;

use super::checksum::{self, BlobKind, checksum};
use super::columns::{StoredProgress, unsigned};
use super::error::DatabaseError;
use super::totals::WriterState;
use super::user_totals;
use super::{LoadedState, UnfinishedExecution, submission};

/// Reads everything except the history.
pub(super) fn load(connection: &Connection) -> Result<LoadedState, DatabaseError> {
    Ok(LoadedState {
        last_number: WriterState::read(connection)?.totals.last_number,
        unfinished: unfinished(connection)?,
        events: events(connection)?,
        missed_events: missed_events(connection)?,
        undeleted_logs: undeleted_logs(connection)?,
        log_bytes: log_bytes(connection)?,
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
        let blob = |index, kind: BlobKind| -> Result<Vec<u8>, DatabaseError> {
            row.get::<_, Option<_>>(index)?.ok_or(kind.damaged(number))
        };
        let progress = blob(1, BlobKind::Progress)?;
        let progress: StoredProgress = checksum::decode(BlobKind::Progress, number, &progress)?;
        let body = blob(2, BlobKind::Submission)?;
        let (digest, mut submission) = submission::decode(number, &body)?;
        let request_bytes = codec::encode(&submission.request)?.len() as u64;
        // One after the other: all of them together may be larger than escherd's memory.
        let extent = submission.shorten_if_large();
        unfinished.push(UnfinishedExecution {
            submission,
            extent,
            request_bytes,
            digest,
            is_admitted: progress.is_admitted,
            launch_attempts: progress.launch_attempts,
            started: progress.started,
            cancel: progress.cancel,
        });
    }
    Ok(unfinished)
}

fn events(connection: &Connection) -> Result<Vec<Event>, DatabaseError> {
    let sql = "SELECT sequence, body FROM event ORDER BY sequence";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let sequence = unsigned(row.get(0)?);
        let body: Vec<u8> = row.get(1)?;
        events.push(checksum::decode(BlobKind::Event, sequence, &body)?);
    }
    Ok(events)
}

fn missed_events(connection: &Connection) -> Result<HashMap<u32, u64>, DatabaseError> {
    let mut statement = connection.prepare("SELECT uid, body FROM missed_event")?;
    let mut rows = statement.query([])?;
    let mut missed = HashMap::new();
    while let Some(row) = rows.next()? {
        let (uid, body): (u32, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let sequence = checksum::decode(BlobKind::MissedEvent, uid.into(), &body)?;
        missed.insert(uid, sequence);
    }
    Ok(missed)
}

fn undeleted_logs(connection: &Connection) -> Result<Vec<ExecutionId>, DatabaseError> {
    let mut statement = connection.prepare("SELECT id, checksum FROM undeleted_log")?;
    let mut rows = statement.query([])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, checksum): ([u8; 16], Vec<u8>) = (row.get(0)?, row.get(1)?);
        ids.push(undeleted_log_id(id, &checksum)?);
    }
    Ok(ids)
}

fn log_bytes(connection: &Connection) -> Result<BTreeMap<u32, u64>, DatabaseError> {
    let mut by_uid: BTreeMap<u32, u64> = BTreeMap::new();
    // A uid may have belonged to several users.
    for (user, size) in user_totals::read_all(connection)? {
        let bytes = by_uid.entry(user.uid).or_default();
        *bytes = bytes.saturating_add(size.log_bytes);
    }
    Ok(by_uid)
}

/// Checks the id of a log to delete: the one value in which a wrong bit would delete the output of
/// another execution.
pub(super) fn undeleted_log_id(
    id: [u8; 16],
    stored_checksum: &[u8],
) -> Result<ExecutionId, DatabaseError> {
    if *stored_checksum == checksum(BlobKind::UndeletedLog, 0, &id) {
        Ok(ExecutionId::from_bytes(id))
    } else {
        Err(BlobKind::UndeletedLog.damaged(0))
    }
}
