//! What the rest of escherd has to do with.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use escher_protocol::message::Selection;
use escher_protocol::{ApiError, ExecutionId, ExecutionRecord, Resources, Target, Timestamp};
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use super::lookup::{self, Lookup};
use super::metrics::Figures;
use super::open::QuarantinedFile;
use super::quarantine::Damage;
use super::readers::{Readers, Snapshot};
use super::totals::Totals;
use super::writer::{Message, Writer};
use super::{
    ChangeEntry, CommitOutcome, Durability, HistoryLimits, LoadedState, StoreError, expiry, query,
};

/// How a store is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// What a commit outlives.
    pub durability: Durability,
    /// How many of the last events are kept.
    pub max_events: usize,
}

/// The store. Cheap to clone; the last clone to go ends the thread that writes.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Sender<Message>,
    readers: Readers,
    finished: Arc<AtomicU64>,
    figures: Figures,
}

/// An execution that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredExecution {
    /// Its id.
    pub id: ExecutionId,
    /// Its number.
    pub number: u64,
    /// What is known of it; `None` while it is not finished.
    pub record: Option<Box<ExecutionRecord>>,
}

/// How much the store has of finished executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistorySize {
    /// Executions.
    pub executions: u64,
    /// Bytes of their records, logs and indexes, as [`HistoryLimits`] count them.
    pub bytes: u64,
}

/// Some changes could not be written within the time given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store could not be brought up to date in time")]
pub struct FlushTimeout;

/// Opens the store at `path` and starts its thread. Where there is none it is made, in a directory that is
/// there; what is there and is no store, or a damaged one, is set aside, with a [`QuarantinedFile`].
///
/// `settled` is called by that thread after each transaction with what has become of its entries.
///
/// # Errors
/// When the file is of a later version, or cannot be used for a reason that lies outside of it.
pub fn open(
    path: &Path,
    settings: StoreSettings,
    settled: impl Fn(Vec<(u64, CommitOutcome)>) + Send + 'static,
) -> Result<(Store, LoadedState, Vec<QuarantinedFile>), StoreError> {
    let (opened, notices) = super::open::open(path, settings)?;
    let damage = Arc::new(Damage::none(path));
    let finished = Arc::new(AtomicU64::new(opened.state.totals.finished));
    let figures = Figures::default();
    let writer = Writer {
        path: path.to_owned(),
        connection: opened.connection,
        state: opened.state,
        max_events: settings.max_events as u64,
        settled,
        finished: Arc::clone(&finished),
        figures: figures.clone(),
        damage: Arc::clone(&damage),
        queue: VecDeque::new(),
        delayed: 0,
        is_failing: false,
        flushes: Vec::new(),
        close: None,
    };
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer.run(&receiver))
        .map_err(StoreError::io(path, "its thread cannot be started"))?;
    let shared = Shared {
        writer: sender,
        readers: Readers::new(path, damage),
        finished,
        figures,
    };
    let store = Store {
        shared: Arc::new(shared),
    };
    Ok((store, opened.loaded, notices))
}

impl Store {
    /// Has `entries` written, in this order and after all that came before. Returns at once.
    pub fn write(&self, entries: Vec<ChangeEntry>) {
        self.tell(Message::Write(entries));
    }

    fn tell(&self, message: Message) {
        if self.shared.writer.send(message).is_err() {
            tracing::error!("the store is closed, and a change comes too late");
        }
    }

    /// The execution that `target` means among those that `of` has submitted, or among all: by number, UUID,
    /// name (the newest that bears it), or a head or tail of a UUID that no other has.
    ///
    /// # Errors
    /// `ambiguous`, or when the store cannot be read.
    pub async fn find(
        &self,
        of: Option<u32>,
        target: &Target,
    ) -> Result<Option<StoredExecution>, ApiError> {
        let target = target.clone();
        let readers = &self.shared.readers;
        match readers
            .ask(move |snapshot| lookup::find(snapshot, of, &target))
            .await?
        {
            Lookup::Of(found) => Ok(found),
            Lookup::Ambiguous(error) => Err(error),
        }
    }

    /// What the finished execution `number` was allowed to use, and has used; `None` if there is no such one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn resources(&self, number: u64) -> Result<Option<Resources>, ApiError> {
        let readers = &self.shared.readers;
        readers
            .ask(move |snapshot| query::resources(snapshot, number))
            .await
    }

    /// Finished executions that fit, with numbers below `before`, the newest first; at most `room`, whatever
    /// the limit of the filter. A record that is damaged is passed over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        of: Option<u32>,
        selection: Selection,
        before: u64,
        room: usize,
    ) -> Result<Vec<ExecutionRecord>, ApiError> {
        let readers = &self.shared.readers;
        readers
            .ask(move |snapshot| query::list(snapshot, of, &selection, before, room))
            .await
    }

    /// As [`Store::list`]: their numbers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn finished_numbers(
        &self,
        of: Option<u32>,
        selection: Selection,
        before: u64,
        room: usize,
    ) -> Result<Vec<u64>, ApiError> {
        let readers = &self.shared.readers;
        readers
            .ask(move |snapshot| query::finished_numbers(snapshot, of, &selection, before, room))
            .await
    }

    /// At most `room` finished executions that have to go for `limits` to hold, those first that ended first.
    /// The limits mean what they say: 0 keeps nothing, the largest number everything.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn expired(
        &self,
        limits: HistoryLimits,
        now: Timestamp,
        room: usize,
    ) -> Result<Vec<u64>, ApiError> {
        let readers = &self.shared.readers;
        readers
            .ask(move |snapshot| expiry::expired(snapshot, limits, now, room))
            .await
    }

    /// How many finished executions there are. Costs nothing.
    #[must_use]
    pub fn finished_count(&self) -> u64 {
        self.shared.finished.load(Ordering::Relaxed)
    }

    /// How much there is of finished executions, by what the file says.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn history_size(&self) -> Result<HistorySize, ApiError> {
        let read = |snapshot: &Snapshot<'_>| Totals::read(&snapshot.connection);
        let totals = self.shared.readers.ask(read).await?;
        Ok(HistorySize {
            executions: totals.finished,
            bytes: totals.history_bytes,
        })
    }

    /// Adds what the store counts to what is told.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.shared.figures.register(registry);
    }

    /// Waits until all that was given to [`Store::write`] so far is settled.
    ///
    /// # Errors
    /// When that takes longer than `within`; it is still tried then.
    pub async fn flush(&self, within: Duration) -> Result<(), FlushTimeout> {
        self.settle(Message::Flush, within).await
    }

    /// As [`Store::flush`], and closes the file. What is written later is lost.
    ///
    /// # Errors
    /// When that takes longer than `within`; it is still tried then.
    pub async fn close(&self, within: Duration) -> Result<(), FlushTimeout> {
        self.shared.readers.close();
        self.settle(Message::Close, within).await
    }

    async fn settle(
        &self,
        message: impl FnOnce(oneshot::Sender<()>) -> Message,
        within: Duration,
    ) -> Result<(), FlushTimeout> {
        let (done, settled) = oneshot::channel();
        self.tell(message(done));
        match tokio::time::timeout(within, settled).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(FlushTimeout),
        }
    }
}
