//! The handle by which the rest of escherd uses the store.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use escher_protocol::message::{Removed, Selection};
use escher_protocol::{
    ApiError, Command, ExecutionId, ExecutionRecord, Status, Target, Timestamp, User,
};
use prometheus_client::registry::Registry;
use tokio::sync::{oneshot, watch};

use super::damage::DamageMarker;
use super::disk_reserve::DiskReserve;
use super::error::DatabaseError;
use super::intake::Intake;
use super::journal::SharedJournal;
use super::kept_logs::{KeptLogs, KeptLogsCursor};
use super::known_keys::KnownKeys;
use super::lookup::{self, LookupScope, StoredExecution};
use super::metrics::StoreMetrics;
use super::open::{QuarantinedFile, StoreSettings};
use super::readers::{ReaderPool, Snapshot};
use super::totals::Totals;
use super::writer::{Writer, WriterMessage};
use super::{
    ChangeEntry, CommitOutcome, HistoryLimits, HistoryPage, HistorySize, LoadedState, StoreError,
    expiry, kept_logs, newest, quarantine, query, removable, submission, user_totals,
};

/// The store. Cheap to clone; dropping the last clone ends the thread that writes.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    writer: Sender<WriterMessage>,
    readers: ReaderPool,
    history: watch::Receiver<HistorySize>,
    journal: Option<Arc<SharedJournal>>,
    known_keys: Arc<KnownKeys>,
    min_free_bytes: Arc<AtomicU64>,
    metrics: StoreMetrics,
}

/// Some changes were not written in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store could not be brought up to date in time")]
pub struct FlushTimeout;

/// Opens the store at `path` and starts its thread. If there is no file, it is created, in an
/// existing directory. A damaged file, or one that is not a store, is set aside and replaced.
///
/// The thread calls `on_outcomes` after each transaction with the outcomes of its entries.
///
/// # Errors
/// When the version of the file is not supported, or it cannot be used for a reason other than
/// damage.
pub fn open(
    path: &Path,
    settings: StoreSettings,
    on_outcomes: impl Fn(Vec<(u64, CommitOutcome)>) + Send + 'static,
) -> Result<(Store, LoadedState, Vec<QuarantinedFile>), StoreError> {
    let (mut opened, quarantined) = super::open::open(path, settings)?;
    let last_number = opened.state.totals.last_number;
    opened.numbers.keep_ahead_of(last_number);
    let damage = Arc::new(DamageMarker::new(path));
    let (history_sender, history) = watch::channel(opened.state.totals.history);
    let metrics = StoreMetrics::default();
    let min_free_bytes = Arc::new(AtomicU64::new(settings.min_free_bytes));
    let journal = opened.journal.map(SharedJournal::new).map(Arc::new);
    let known_keys = Arc::new(KnownKeys::new());
    let writer = Writer {
        path: path.to_owned(),
        connection: opened.connection,
        state: opened.state,
        users: opened.users,
        numbers: opened.numbers,
        disk_reserve: DiskReserve::new(directory(path), Arc::clone(&min_free_bytes)),
        on_outcomes,
        history: history_sender,
        metrics: metrics.clone(),
        damage: Arc::clone(&damage),
        journal: journal.clone(),
        known_keys: Arc::clone(&known_keys),
        queue: VecDeque::new(),
        backlog_since: None,
        delayed: 0,
        is_failing: false,
        catch_ups: Vec::new(),
        flushes: Vec::new(),
        close: None,
    };
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer.run(&receiver))
        .map_err(StoreError::io(path, "its thread cannot be started"))?;
    let shared = Shared {
        path: path.to_owned(),
        writer: sender,
        readers: ReaderPool::new(path, damage),
        history,
        journal,
        known_keys,
        min_free_bytes,
        metrics,
    };
    let store = Store {
        shared: Arc::new(shared),
    };
    Ok((store, opened.loaded, quarantined))
}

impl Store {
    /// Returns the intake, by which the scheduler writes.
    #[must_use]
    pub fn intake(&self) -> Intake {
        let shared = &self.shared;
        let reserve = DiskReserve::new(directory(&shared.path), Arc::clone(&shared.min_free_bytes));
        let (journal, known_keys) = (shared.journal.clone(), Arc::clone(&shared.known_keys));
        Intake::new(shared.writer.clone(), journal, known_keys, reserve)
    }

    /// Queues `entries` to be written to the database in this order, after all earlier ones. Returns at once.
    pub fn write(&self, entries: Vec<ChangeEntry>) {
        self.send(WriterMessage::Write(entries));
    }

    /// Changes how many bytes of the disk have to be free for a submission to be written.
    pub fn set_min_free_bytes(&self, bytes: u64) {
        self.shared.min_free_bytes.store(bytes, Ordering::Relaxed);
    }

    fn send(&self, message: WriterMessage) {
        if self.shared.writer.send(message).is_err() {
            tracing::error!("a change is lost: the store is closed");
        }
    }

    /// Finds the execution that `target` means, among those of `submitter` or among all: by number,
    /// UUID, name (the newest with that name), or the unique head or tail of a UUID.
    ///
    /// # Errors
    /// `ambiguous`, or when the store cannot be read.
    pub async fn find(
        &self,
        scope: LookupScope,
        target: &Target,
    ) -> Result<Option<StoredExecution>, ApiError> {
        let target = target.clone();
        let result = self
            .read(uid_of(scope.submitter.as_ref()), move |snapshot| {
                lookup::find(snapshot, &scope, &target)
            })
            .await?;
        result.into()
    }

    /// Returns the execution of `owner` that has this name: the one that is not over, else the newest.
    ///
    /// # Errors
    /// `ambiguous` if several are not over, or when the store cannot be read.
    pub async fn find_named(
        &self,
        owner: User,
        name: &str,
    ) -> Result<Option<StoredExecution>, ApiError> {
        let name = name.to_owned();
        let result = self
            .read(Some(owner.uid), move |snapshot| {
                lookup::find_named(snapshot, &owner, &name)
            })
            .await?;
        result.into()
    }

    /// Returns number and id of the newest execution of `owner` that has ended in one of `statuses`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find_newest(
        &self,
        owner: User,
        statuses: Vec<Status>,
    ) -> Result<Option<(u64, ExecutionId)>, ApiError> {
        self.read(Some(owner.uid), move |snapshot| {
            newest::find(snapshot, &owner, &statuses)
        })
        .await
    }

    /// Returns the command of the execution `id` as its record has it, and whether that is cut; `None` if there is no
    /// such execution. It is read in the turn of `submitter`; `None`: in that of root.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn command(
        &self,
        submitter: Option<User>,
        number: u64,
        id: ExecutionId,
    ) -> Result<Option<(Command, bool)>, ApiError> {
        self.read(uid_of(submitter.as_ref()), move |snapshot| {
            submission::command(snapshot, number, id)
        })
        .await
    }

    /// Returns the next matching finished executions with numbers in `range`, the newest first; at most
    /// `limit`, whatever the limit of the filter. Long commands are shortened, and damaged
    /// records omitted.
    ///
    /// Each call does a bounded amount of work, so there may be more than it returns.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        submitter: Option<User>,
        selection: Selection,
        range: Range<u64>,
        limit: usize,
    ) -> Result<HistoryPage<ExecutionRecord>, ApiError> {
        self.read(uid_of(submitter.as_ref()), move |snapshot| {
            query::list(snapshot, submitter.as_ref(), &selection, range, limit)
        })
        .await
    }

    /// As [`Store::list`] with all numbers below `before`, but returns only the numbers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn finished_numbers(
        &self,
        submitter: Option<User>,
        selection: Selection,
        before: u64,
        limit: usize,
    ) -> Result<HistoryPage<u64>, ApiError> {
        self.read(uid_of(submitter.as_ref()), move |snapshot| {
            let submitter = submitter.as_ref();
            query::finished_numbers(snapshot, submitter, &selection, 0..before, limit)
        })
        .await
    }

    /// Counts the executions that [`Store::finished_numbers`] returns, and the bytes of their logs. Returns
    /// with them where to continue.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn count_removable(
        &self,
        submitter: Option<User>,
        selection: Selection,
        before: u64,
        limit: usize,
    ) -> Result<(Removed, Option<u64>), ApiError> {
        self.read(uid_of(submitter.as_ref()), move |snapshot| {
            removable::count(snapshot, submitter.as_ref(), &selection, before, limit)
        })
        .await
    }

    /// Returns at most `limit` finished executions that are over the age or number of `limits`. These
    /// are meant literally: 0 keeps nothing, the largest number everything.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn expired_records(
        &self,
        limits: HistoryLimits,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<u64>, ApiError> {
        self.read(None, move |snapshot| {
            expiry::expired_records(snapshot, limits, now, limit)
        })
        .await
    }

    /// Returns at most `limit` finished executions whose logs are over the bytes of `limits`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn expired_logs(
        &self,
        limits: HistoryLimits,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<u64>, ApiError> {
        self.read(None, move |snapshot| {
            expiry::expired_logs(snapshot, limits, now, limit)
        })
        .await
    }

    /// Runs `query` in the turn of the user `submitter`, once the database has all changes of before.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        submitter: Option<u32>,
        query: impl FnOnce(&Snapshot<'_>) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.catch_up().await;
        self.shared.readers.run(submitter, query).await
    }

    /// Waits until the database has all changes of before, or cannot get them now.
    async fn catch_up(&self) {
        let journal = self.shared.journal.as_ref();
        if journal.is_some_and(|journal| journal.is_ahead()) {
            let (responder, answer) = oneshot::channel();
            self.send(WriterMessage::CatchUp(responder));
            // Without an answer the store is closed, which a query will find.
            let _ = answer.await;
        }
    }

    /// Returns the number of finished executions, without reading the file.
    pub async fn finished_count(&self) -> u64 {
        self.catch_up().await;
        self.shared.history.borrow().executions
    }

    /// Returns a watch of the size of the history, which changes with each commit that changes it.
    #[must_use]
    pub fn watch_history(&self) -> watch::Receiver<HistorySize> {
        self.shared.history.clone()
    }

    /// Reads what each user has in the history.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn user_history(&self) -> Result<BTreeMap<User, HistorySize>, ApiError> {
        let read = |snapshot: &Snapshot<'_>| user_totals::read_all(&snapshot.connection);
        self.read(None, read).await
    }

    /// Returns the next kept logs of `owner`, at most `limit`; `None`: from the first one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kept_logs(
        &self,
        owner: User,
        after: Option<KeptLogsCursor>,
        limit: usize,
    ) -> Result<KeptLogs, ApiError> {
        self.read(None, move |snapshot| {
            kept_logs::read(snapshot, &owner, after, limit)
        })
        .await
    }

    /// Reads the size of the history.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn history_size(&self) -> Result<HistorySize, ApiError> {
        let read = |snapshot: &Snapshot<'_>| Totals::read(&snapshot.connection);
        let totals = self.read(None, read).await?;
        Ok(totals.history)
    }

    /// Deletes what was set aside of the store longer than `age` ago, and returns the names of the
    /// files.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub async fn delete_set_aside(&self, age: Duration, now: Timestamp) -> io::Result<Vec<String>> {
        let path = self.shared.path.clone();
        let deletion =
            tokio::task::spawn_blocking(move || quarantine::delete_expired(&path, age, now));
        deletion.await?
    }

    /// Adds the store's metrics to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Waits until everything passed to [`Store::write`] so far is written or refused.
    ///
    /// # Errors
    /// When that takes longer than `timeout`; writing goes on then.
    pub async fn flush(&self, timeout: Duration) -> Result<(), FlushTimeout> {
        self.await_writer(WriterMessage::Flush, timeout).await
    }

    /// As [`Store::flush`], and closes the file. Queries end early, for which they have `timeout`, too. Later changes
    /// are lost.
    ///
    /// # Errors
    /// When that takes longer than `timeout`; writing goes on then.
    pub async fn close(&self, timeout: Duration) -> Result<(), FlushTimeout> {
        // The writer closes in any case.
        let _ = tokio::time::timeout(timeout, self.shared.readers.close()).await;
        self.await_writer(WriterMessage::Close, timeout).await
    }

    async fn await_writer(
        &self,
        message: impl FnOnce(oneshot::Sender<()>) -> WriterMessage,
        timeout: Duration,
    ) -> Result<(), FlushTimeout> {
        let (responder, answer) = oneshot::channel();
        self.send(message(responder));
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(FlushTimeout),
        }
    }
}

/// Returns the directory of the store at `path`.
fn directory(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Returns the user in whose turn a query is run.
fn uid_of(submitter: Option<&User>) -> Option<u32> {
    submitter.map(|user| user.uid)
}
