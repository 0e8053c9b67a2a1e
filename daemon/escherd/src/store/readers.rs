//! Connections that read, off the event loop.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use escher_protocol::{ApiError, ErrorCode};
use rusqlite::{Connection, Transaction};

use super::connection;
use super::damage::DamageMarker;
use super::error::{DamageEvidence, DatabaseError};
use crate::blocking::{Abandoned, BlockingPool};

/// How many queries run at the same time; others wait for their user's turn.
const MAX_READERS: usize = 4;

/// The turn in which root and escherd itself read.
const ROOT: u32 = 0;

/// Steps of SQLite's virtual machine after which a query looks whether it was abandoned: less than a
/// millisecond.
const STEPS_PER_BLOCK: i32 = 10_000;

/// A pool of connections. Idle ones are kept, with their prepared statements.
#[derive(Debug)]
pub(super) struct ReaderPool {
    path: PathBuf,
    threads: BlockingPool,
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

impl Snapshot<'_> {
    /// Reports `found` if it is evidence of damage, and returns `None` in its place.
    pub(super) fn skip_damaged<T>(
        &self,
        found: Result<T, DatabaseError>,
    ) -> Result<Option<T>, DatabaseError> {
        match found {
            Err(error) if error.evidence() != DamageEvidence::None => {
                self.damage.report(&error);
                Ok(None)
            }
            found => found.map(Some),
        }
    }
}

impl ReaderPool {
    /// Creates a pool for the store at `path`. Connections are opened when they are needed.
    pub(super) fn new(path: &Path, damage: Arc<DamageMarker>) -> Self {
        ReaderPool {
            path: path.to_owned(),
            threads: BlockingPool::new(MAX_READERS),
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

    /// Runs `query` on a thread of its own, in the turn of the user `submitter`; `None`: in that of
    /// root, who reads the executions of all. The query ends early if the future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        submitter: Option<u32>,
        query: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let unreadable = |reason: String| {
            let message = format!("the store cannot be read: {reason}");
            ApiError::new(ErrorCode::INTERNAL, message).with_hint("escherd's log may say more")
        };
        let (path, idle, damage) = (
            self.path.clone(),
            Arc::clone(&self.idle),
            Arc::clone(&self.damage),
        );
        let work = move |abandoned: &Abandoned| {
            let connection = idle.lock().ok().and_then(|mut idle| idle.pop());
            let answer = run_on(connection, &path, &damage, abandoned, query);
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
        };
        match self.threads.run(submitter.unwrap_or(ROOT), work).await {
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
    abandoned: &Abandoned,
    query: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError>,
) -> Result<(T, Connection), DatabaseError> {
    let mut connection = match idle {
        Some(connection) => connection,
        None => connection::reader(path)?,
    };
    let is_abandoned = {
        let abandoned = abandoned.clone();
        move || abandoned.is_set()
    };
    connection.progress_handler(STEPS_PER_BLOCK, Some(is_abandoned))?;
    let snapshot = Snapshot {
        connection: connection.transaction()?,
        damage,
    };
    let value = query(&snapshot)?;
    drop(snapshot);
    Ok((value, connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::sync::oneshot;

    fn pool(directory: &Path) -> Arc<ReaderPool> {
        let path = directory.join("store");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        let damage = Arc::new(DamageMarker::new(&path));
        Arc::new(ReaderPool::new(&path, damage))
    }

    async fn one(pool: &ReaderPool, uid: u32) -> i64 {
        let query = |snapshot: &Snapshot<'_>| {
            Ok(snapshot
                .connection
                .query_row("SELECT 1", [], |row| row.get(0))?)
        };
        pool.run(Some(uid), query).await.unwrap()
    }

    /// Users whose queries never end, on all threads, and whose clients disconnect.
    #[tokio::test]
    async fn endless_queries_of_one_user_neither_delay_others_nor_outlive_their_client() {
        let directory = tempfile::tempdir().unwrap();
        let pool = pool(directory.path());
        let endless = |uid| {
            let (pool, (started, has_started)) = (Arc::clone(&pool), oneshot::channel());
            let query = move |snapshot: &Snapshot<'_>| {
                let _ = started.send(());
                let endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                               SELECT max(x) FROM n";
                Ok(snapshot
                    .connection
                    .query_row(endless, [], |row| row.get::<_, i64>(0))?)
            };
            let task = tokio::spawn(async move { pool.run(Some(uid), query).await });
            (task, has_started)
        };
        let mut tasks = Vec::new();
        for _ in 1..MAX_READERS {
            let (task, has_started) = endless(1);
            has_started.await.unwrap();
            tasks.push(task);
        }
        for _ in 0..100 {
            tasks.push(endless(1).0);
        }
        assert_eq!(
            one(&pool, 2).await,
            1,
            "the last reader is not the first user's"
        );
        let (task, has_started) = endless(2);
        has_started.await.unwrap();
        tasks.push(task);
        for task in &tasks {
            task.abort();
        }
        assert_eq!(one(&pool, 3).await, 1, "the readers are free again");
    }
}
