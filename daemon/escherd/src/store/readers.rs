//! Connections that read, off the event loop.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use escher_protocol::{ApiError, ErrorCode};
use rusqlite::{Connection, Transaction};
use tokio::sync::Semaphore;

use super::connection;
use super::damage::DamageMarker;
use super::error::DatabaseError;

/// How many queries run at the same time; others wait.
const MAX_READERS: usize = 4;

/// A pool of connections. Idle ones are kept, with their prepared statements.
#[derive(Debug)]
pub(super) struct ReaderPool {
    path: PathBuf,
    permits: Semaphore,
    idle: Arc<Mutex<Vec<Connection>>>,
    damage: Arc<DamageMarker>,
}

/// What a query reads: one state of the store, whatever is written meanwhile.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    /// A transaction that only reads.
    pub(super) connection: Transaction<'a>,
    /// Takes reports of damage that does not stop the query.
    pub(super) damage: &'a DamageMarker,
}

impl ReaderPool {
    /// Creates a pool for the store at `path`. Connections are opened when they are needed.
    pub(super) fn new(path: &Path, damage: Arc<DamageMarker>) -> Self {
        ReaderPool {
            path: path.to_owned(),
            permits: Semaphore::new(MAX_READERS),
            idle: Arc::default(),
            damage,
        }
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.clear();
        }
    }

    /// Runs `query` on a thread of its own.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let unreadable = |reason: String| {
            let message = format!("the store cannot be read: {reason}");
            ApiError::new(ErrorCode::INTERNAL, message).with_hint("escherd's log may say more")
        };
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|closed| unreadable(closed.to_string()))?;
        let (path, idle, damage) = (
            self.path.clone(),
            Arc::clone(&self.idle),
            Arc::clone(&self.damage),
        );
        let task = tokio::task::spawn_blocking(move || {
            let connection = idle.lock().ok().and_then(|mut idle| idle.pop());
            let answer = run_on(connection, &path, &damage, query);
            if let Err(error) = &answer {
                damage.report(error);
            }
            // A connection that met an error is not used again.
            answer.map(|(value, connection)| {
                if let Ok(mut idle) = idle.lock() {
                    idle.push(connection);
                }
                value
            })
        });
        match task.await {
            Ok(answer) => answer.map_err(|error| unreadable(error.to_string())),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

/// Runs `query` on an idle connection, or on a new one if there is none.
fn run_on<T>(
    idle: Option<Connection>,
    path: &Path,
    damage: &DamageMarker,
    query: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError>,
) -> Result<(T, Connection), DatabaseError> {
    let mut connection = match idle {
        Some(connection) => connection,
        None => connection::reader(path)?,
    };
    let snapshot = Snapshot {
        connection: connection.transaction()?,
        damage,
    };
    let value = query(&snapshot)?;
    drop(snapshot);
    Ok((value, connection))
}
