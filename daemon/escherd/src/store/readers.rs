//! Connections that read, off the event loop.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use escher_protocol::{ApiError, ErrorCode};
use rusqlite::{Connection, Transaction};
use tokio::sync::Semaphore;

use super::connection;
use super::error::DatabaseError;
use super::quarantine::Damage;

/// Most questions that are looked up at the same time; others wait their turn.
const MAX_READERS: usize = 4;

/// Connections, kept while nobody needs them with the statements that they know.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    turns: Semaphore,
    idle: Arc<Mutex<Vec<Connection>>>,
    damage: Arc<Damage>,
}

/// What a question is looked up in: one state of the store, whatever is written meanwhile.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    /// A transaction that only reads.
    pub(super) connection: Transaction<'a>,
    /// Where damage is reported that does not stop the question.
    pub(super) damage: &'a Damage,
}

impl Readers {
    /// Readers of the store at `path`. Connections are opened as they are needed.
    pub(super) fn new(path: &Path, damage: Arc<Damage>) -> Self {
        Readers {
            path: path.to_owned(),
            turns: Semaphore::new(MAX_READERS),
            idle: Arc::default(),
            damage,
        }
    }

    /// Closes the connections that nobody uses.
    pub(super) fn close(&self) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.clear();
        }
    }

    /// Has `question` answered on a thread of its own.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let unreadable = |reason: String| {
            let message = format!("the store cannot be read: {reason}");
            ApiError::new(ErrorCode::INTERNAL, message).with_hint("escherd's log may tell more")
        };
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|closed| unreadable(closed.to_string()))?;
        let (path, idle, damage) = (
            self.path.clone(),
            Arc::clone(&self.idle),
            Arc::clone(&self.damage),
        );
        let asked = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().ok().and_then(|mut idle| idle.pop());
            let answer = answer(&path, kept, &damage, question);
            if let Err(fault) = &answer {
                damage.note(fault);
            }
            // A connection that has met a fault is not used again.
            answer.map(|(value, connection)| {
                if let Ok(mut idle) = idle.lock() {
                    idle.push(connection);
                }
                value
            })
        });
        match asked.await {
            Ok(answer) => answer.map_err(|fault| unreadable(fault.to_string())),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

fn answer<T>(
    path: &Path,
    kept: Option<Connection>,
    damage: &Damage,
    question: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError>,
) -> Result<(T, Connection), DatabaseError> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => connection::reader(path)?,
    };
    let snapshot = Snapshot {
        connection: connection.transaction()?,
        damage,
    };
    let value = question(&snapshot)?;
    drop(snapshot);
    Ok((value, connection))
}
