//! Connections that read, off the event loop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use escher_protocol::{ApiError, ErrorCode};
use rusqlite::{Connection, Transaction};
use tokio::sync::watch;

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
    connections: Arc<Connections>,
    damage: Arc<DamageMarker>,
}

/// The connections of a pool.
#[derive(Debug, Default)]
struct Connections {
    idle: Mutex<Vec<Connection>>,
    /// How many have a query.
    in_use: watch::Sender<usize>,
    is_closed: AtomicBool,
}

/// Counts a connection that has a query, until this is dropped.
struct InUse<'a>(&'a Connections);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.in_use.send_modify(|count| *count -= 1);
    }
}

impl Connections {
    fn begin_use(&self) -> InUse<'_> {
        self.in_use.send_modify(|count| *count += 1);
        InUse(self)
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Returns an idle connection, if there is one.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop()
    }

    /// Keeps a connection for the next query.
    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_closed() {
            idle.push(connection);
        }
    }

    /// Closes all connections, and returns once their queries have ended, which they do early.
    async fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
        let mut in_use = self.in_use.subscribe();
        // The sender is in `self`.
        let _ = in_use.wait_for(|count| *count == 0).await;
    }
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
            connections: Arc::default(),
            damage,
        }
    }

    /// Closes all connections, and returns once their queries have ended, which they do early. A connection that is
    /// open when the writer closes keeps the write-ahead log, which has the environments of ended commands.
    pub(super) async fn close(&self) {
        self.connections.close().await;
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
        let (path, connections, damage) = (
            self.path.clone(),
            Arc::clone(&self.connections),
            Arc::clone(&self.damage),
        );
        let work = move |abandoned: &Abandoned| {
            let in_use = connections.begin_use();
            if connections.is_closed() {
                return None;
            }
            let answer = run_on(&connections, &path, &damage, abandoned, query);
            if let Err(error) = &answer {
                damage.report(error);
            }
            drop(in_use);
            Some(answer)
        };
        match self.threads.run(submitter.unwrap_or(ROOT), work).await {
            Ok(Some(answer)) => answer.map_err(|error| unreadable(error.to_string())),
            Ok(None) => Err(unreadable("it is closed".to_owned())),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

/// Runs `query` on an idle connection, or on a new one if there is none. A connection that meets an error is not used
/// again.
fn run_on<T>(
    connections: &Arc<Connections>,
    path: &Path,
    damage: &DamageMarker,
    abandoned: &Abandoned,
    query: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    let mut connection = match connections.take() {
        Some(connection) => connection,
        None => connection::reader(path)?,
    };
    let is_abandoned = {
        let (abandoned, connections) = (abandoned.clone(), Arc::clone(connections));
        move || abandoned.is_set() || connections.is_closed()
    };
    connection.progress_handler(STEPS_PER_BLOCK, Some(is_abandoned))?;
    let snapshot = Snapshot {
        connection: connection.transaction()?,
        damage,
    };
    let value = query(&snapshot)?;
    drop(snapshot);
    connections.put_back(connection);
    Ok(value)
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

    fn endless(snapshot: &Snapshot<'_>) -> Result<i64, DatabaseError> {
        let endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                       SELECT max(x) FROM n";
        Ok(snapshot
            .connection
            .query_row(endless, [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn closing_ends_queries_and_refuses_later_ones() {
        let directory = tempfile::tempdir().unwrap();
        let pool = pool(directory.path());
        let (started, has_started) = oneshot::channel();
        let query = move |snapshot: &Snapshot<'_>| {
            let _ = started.send(());
            endless(snapshot)
        };
        let running = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(Some(1), query).await }
        });
        has_started.await.unwrap();
        pool.close().await;
        assert_eq!(*pool.connections.in_use.borrow(), 0);
        assert!(running.await.unwrap().is_err());
        let refused = pool.run(Some(1), endless).await.unwrap_err();
        assert!(refused.message.contains("it is closed"), "{refused}");
        assert!(pool.connections.take().is_none());
    }

    /// Users whose queries never end, on all threads, and whose clients disconnect.
    #[tokio::test]
    async fn endless_queries_of_one_user_neither_delay_others_nor_outlive_their_client() {
        let directory = tempfile::tempdir().unwrap();
        let pool = pool(directory.path());
        let start_endless = |uid| {
            let (pool, (started, has_started)) = (Arc::clone(&pool), oneshot::channel());
            let query = move |snapshot: &Snapshot<'_>| {
                let _ = started.send(());
                endless(snapshot)
            };
            let task = tokio::spawn(async move { pool.run(Some(uid), query).await });
            (task, has_started)
        };
        let mut tasks = Vec::new();
        for _ in 1..MAX_READERS {
            let (task, has_started) = start_endless(1);
            has_started.await.unwrap();
            tasks.push(task);
        }
        for _ in 0..100 {
            tasks.push(start_endless(1).0);
        }
        assert_eq!(
            one(&pool, 2).await,
            1,
            "the last reader is not the first user's"
        );
        let (task, has_started) = start_endless(2);
        has_started.await.unwrap();
        tasks.push(task);
        for task in &tasks {
            task.abort();
        }
        assert_eq!(one(&pool, 3).await, 1, "the readers are free again");
    }
}
