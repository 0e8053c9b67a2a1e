//! The thread that writes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::apply::StoreTransaction;
use super::damage::DamageMarker;
use super::disk_reserve::DiskReserve;
use super::error::DatabaseError;
use super::journal::SharedJournal;
use super::known_keys::KnownKeys;
use super::metrics::StoreMetrics;
use super::number_mark::NumberMark;
use super::queued_entry::QueuedEntry;
use super::totals::WriterState;
use super::user_totals::UserTotals;
use super::{ChangeEntry, CommitOutcome, HistorySize};

/// Maximum entries of a transaction; later ones wait for its end.
const MAX_ENTRIES: usize = 1024;

/// The pause after a failure, unless something new comes before.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Time in which changes that are in the journal are collected for a transaction.
const APPLY_DELAY: Duration = Duration::from_millis(200);

/// A message to the writer.
#[derive(Debug)]
pub(super) enum WriterMessage {
    /// Write these entries, in this order, after those of the journal's backlog.
    Write(Vec<ChangeEntry>),
    /// The journal's backlog has its first entry, or as many as a transaction takes.
    Backlog,
    /// Answer once it was tried to write all earlier entries.
    CatchUp(oneshot::Sender<()>),
    /// Answer once all earlier entries are written or refused.
    Flush(oneshot::Sender<()>),
    /// As `Flush`, and close the connection and end the thread.
    Close(oneshot::Sender<()>),
}

/// The state of the thread.
pub(super) struct Writer<F> {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) state: WriterState,
    pub(super) users: UserTotals,
    pub(super) numbers: NumberMark,
    pub(super) disk_reserve: DiskReserve,
    pub(super) on_outcomes: F,
    pub(super) history: watch::Sender<HistorySize>,
    pub(super) metrics: StoreMetrics,
    pub(super) damage: Arc<DamageMarker>,
    pub(super) journal: Option<Arc<SharedJournal>>,
    pub(super) known_keys: Arc<KnownKeys>,
    pub(super) queue: VecDeque<QueuedEntry>,
    /// Since when the journal's backlog has entries that nobody waits for; `None` if it is empty.
    pub(super) backlog_since: Option<Instant>,
    /// How many entries at the front of the queue were reported as delayed.
    pub(super) delayed: usize,
    pub(super) is_failing: bool,
    pub(super) catch_ups: Vec<oneshot::Sender<()>>,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) close: Option<oneshot::Sender<()>>,
}

impl<F: Fn(Vec<(u64, CommitOutcome)>)> Writer<F> {
    /// Writes until it is closed or all senders are dropped.
    pub(super) fn run(mut self, receiver: &Receiver<WriterMessage>) {
        let mut is_connected = true;
        while is_connected && !(self.close.is_some() && self.queue.is_empty()) {
            self.build_known_keys();
            let first = match self.backlog_since {
                _ if !self.queue.is_empty() => receiver.recv_timeout(RETRY_DELAY),
                Some(since) => receiver.recv_timeout(APPLY_DELAY.saturating_sub(since.elapsed())),
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(message) => self.accept(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_connected = false,
            }
            while let Ok(message) = receiver.try_recv() {
                self.accept(message);
            }
            if !is_connected || self.is_due() {
                self.write_queue();
            }
        }
        let lost = self
            .queue
            .iter()
            .filter(|queued| queued.is_awaited())
            .count();
        if lost > 0 {
            let path = self.path.display();
            tracing::error!("{path}: {lost} changes could not be written, and are lost");
        }
        // Reply only when the connection is closed, and the write-ahead log gone with it.
        let close = self.close.take();
        drop(self);
        if let Some(close) = close {
            let _ = close.send(());
        }
    }

    /// Queues what a message asks for.
    pub(super) fn accept(&mut self, message: WriterMessage) {
        match message {
            WriterMessage::Write(entries) => {
                self.take_backlog();
                self.queue
                    .extend(entries.into_iter().map(QueuedEntry::awaited));
            }
            WriterMessage::Backlog => {
                self.backlog_since.get_or_insert_with(Instant::now);
            }
            WriterMessage::CatchUp(responder) => self.catch_ups.push(responder),
            WriterMessage::Flush(responder) => self.flushes.push(responder),
            WriterMessage::Close(responder) => self.close = Some(responder),
        }
    }

    /// Returns whether there is something to write now. What is in the journal may wait for a while.
    fn is_due(&self) -> bool {
        let has_requests = !(self.flushes.is_empty() && self.catch_ups.is_empty());
        let is_backlog_due =
            |since: Instant| since.elapsed() >= APPLY_DELAY || self.has_full_backlog();
        !self.queue.is_empty()
            || self.close.is_some()
            || has_requests
            || self.backlog_since.is_some_and(is_backlog_due)
    }

    fn has_full_backlog(&self) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| journal.has_full_backlog())
    }

    /// Queues what the journal has and the database has not.
    fn take_backlog(&mut self) {
        self.backlog_since = None;
        if let Some(journal) = &self.journal {
            self.queue.extend(journal.take_backlog());
        }
    }

    /// Builds the filter of known keys, if there is none.
    fn build_known_keys(&self) {
        if let Err(error) = self.known_keys.build_if_missing(&self.connection) {
            self.damage.report(&error);
        }
    }

    /// Writes the queue, or as much of it as can be written. The rest stays, in order, except for
    /// submissions: they are refused at once, and are not written later.
    pub(super) fn write_queue(&mut self) {
        self.take_backlog();
        loop {
            self.refuse_beyond_reserve();
            if self.queue.is_empty() {
                break;
            }
            let begun = Instant::now();
            match self.write_transaction() {
                Ok(outcomes) => {
                    self.metrics.add_commit(begun.elapsed());
                    self.log_recovery();
                    (self.on_outcomes)(outcomes);
                }
                Err(error) => {
                    self.metrics.add_failure();
                    self.log_failure(&error);
                    // Without the submissions there may be space for the rest.
                    let reason = self.describe_failure(&error);
                    if !self.refuse_submissions(&reason) {
                        break;
                    }
                }
            }
        }
        for responder in self.catch_ups.drain(..) {
            let _ = responder.send(());
        }
        if self.queue.is_empty() {
            for responder in self.flushes.drain(..) {
                let _ = responder.send(());
            }
        }
    }

    /// Writes the first entries of the queue, all or none, and removes them from it.
    fn write_transaction(&mut self) -> Result<Vec<(u64, CommitOutcome)>, DatabaseError> {
        let mut state = self.state;
        let count = self.queue.len().min(MAX_ENTRIES);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(count);
        self.users.roll_back();
        let mut changes = StoreTransaction {
            connection: &transaction,
            state: &mut state,
            users: &mut self.users,
        };
        let mut last_sequence = None;
        for QueuedEntry { entry, sequence } in self.queue.iter().take(count) {
            let outcome = changes.apply(entry)?;
            last_sequence = sequence.or(last_sequence);
            // What else the journal has was acknowledged already.
            if sequence.is_none() || matches!(outcome, CommitOutcome::Finished { .. }) {
                outcomes.push((entry.ticket, outcome));
            }
        }
        if let Some(sequence) = last_sequence {
            state.totals.journal_sequence = sequence;
        }
        // Before the commit, which acknowledges them.
        self.numbers.keep_ahead_of(state.totals.last_number);
        if state.totals.needs_write(self.state.totals) {
            state.totals.write(&transaction)?;
        }
        self.users.write(&transaction)?;
        transaction.commit()?;
        self.users.commit();
        self.state = state;
        let history = state.totals.history;
        self.history
            .send_if_modified(|known| std::mem::replace(known, history) != history);
        self.queue.drain(..count);
        if let (Some(journal), Some(sequence)) = (&self.journal, last_sequence) {
            journal.on_applied(sequence);
        }
        self.delayed = self.delayed.saturating_sub(count);
        Ok(outcomes)
    }

    /// Refuses what is submitted while only the reserve of the disk is left.
    fn refuse_beyond_reserve(&mut self) {
        let mut next = self.queue.iter().take(MAX_ENTRIES);
        if next.any(QueuedEntry::is_refusable)
            && let Some(reason) = self.disk_reserve.refusal()
        {
            let refused = self.take_submissions(&reason);
            (self.on_outcomes)(refused);
        }
    }

    /// Takes every submission out of the queue, and returns their refusals.
    fn take_submissions(&mut self, reason: &str) -> Vec<(u64, CommitOutcome)> {
        let mut refused = Vec::new();
        self.queue.retain(|queued| {
            let is_refusable = queued.is_refusable();
            if is_refusable {
                let outcome = CommitOutcome::Refused(reason.to_owned());
                refused.push((queued.entry.ticket, outcome));
            }
            !is_refusable
        });
        refused
    }

    fn describe_failure(&self, error: &DatabaseError) -> String {
        let path = self.path.display();
        if self.damage.is_marked() {
            format!(
                "{path} is damaged ({error}); a restart of escherd sets it aside and begins a new one"
            )
        } else {
            format!("{path}: {error}")
        }
    }

    /// Refuses every submission in the queue, and reports the rest as delayed, each entry once.
    /// Returns whether there was a submission.
    fn refuse_submissions(&mut self, reason: &str) -> bool {
        let mut outcomes = self.take_submissions(reason);
        let has_refused = !outcomes.is_empty();
        let later = self.queue.iter().skip(self.delayed);
        for queued in later.filter(|queued| queued.is_awaited()) {
            outcomes.push((queued.entry.ticket, CommitOutcome::Delayed));
        }
        self.delayed = self.queue.len();
        if !outcomes.is_empty() {
            (self.on_outcomes)(outcomes);
        }
        has_refused
    }

    fn log_failure(&mut self, error: &DatabaseError) {
        self.damage.report(error);
        if !std::mem::replace(&mut self.is_failing, true) {
            self.suspend_journal();
            let path = self.path.display();
            tracing::error!(
                "{path} cannot be written: {error}. New executions are refused; changes to others \
                 are kept in memory and retried every {} s",
                RETRY_DELAY.as_secs()
            );
        }
    }

    /// Suspends the journal while the database cannot be written, which would have to take everything in it.
    fn suspend_journal(&self) {
        if let Some(journal) = &self.journal {
            journal.suspend(self.is_failing);
        }
    }

    fn log_recovery(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            self.suspend_journal();
            tracing::info!("{} can be written again", self.path.display());
        }
    }
}
