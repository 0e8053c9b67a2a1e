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
use super::metrics::StoreMetrics;
use super::totals::WriterState;
use super::user_totals::UserTotals;
use super::{Change, ChangeEntry, CommitOutcome, HistorySize};

/// Maximum entries of a transaction; later ones wait for its end.
const MAX_ENTRIES: usize = 1024;

/// The pause after a failure, unless something new comes before.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A message to the writer.
#[derive(Debug)]
pub(super) enum WriterMessage {
    /// Write these entries, in this order.
    Write(Vec<ChangeEntry>),
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
    pub(super) disk_reserve: DiskReserve,
    pub(super) on_outcomes: F,
    pub(super) history: watch::Sender<HistorySize>,
    pub(super) metrics: StoreMetrics,
    pub(super) damage: Arc<DamageMarker>,
    pub(super) queue: VecDeque<ChangeEntry>,
    /// How many entries at the front of the queue were reported as delayed.
    pub(super) delayed: usize,
    pub(super) is_failing: bool,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) close: Option<oneshot::Sender<()>>,
}

impl<F: Fn(Vec<(u64, CommitOutcome)>)> Writer<F> {
    /// Writes until it is closed or all senders are dropped.
    pub(super) fn run(mut self, receiver: &Receiver<WriterMessage>) {
        let mut is_connected = true;
        while is_connected && (self.close.is_none() || !self.queue.is_empty()) {
            let first = if self.queue.is_empty() {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                receiver.recv_timeout(RETRY_DELAY)
            };
            match first {
                Ok(message) => self.accept(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_connected = false,
            }
            while let Ok(message) = receiver.try_recv() {
                self.accept(message);
            }
            self.process();
        }
        if !self.queue.is_empty() {
            let (path, count) = (self.path.display(), self.queue.len());
            tracing::error!("{path}: {count} changes could not be written, and are lost");
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
            WriterMessage::Write(entries) => self.queue.extend(entries),
            WriterMessage::Flush(responder) => self.flushes.push(responder),
            WriterMessage::Close(responder) => self.close = Some(responder),
        }
    }

    /// Writes the queue, or as much of it as can be written. The rest stays, in order, except for
    /// submissions: they are refused at once, and are not written later.
    pub(super) fn process(&mut self) {
        loop {
            self.spare_reserve();
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
        for entry in self.queue.iter().take(count) {
            outcomes.push((entry.ticket, changes.apply(entry)?));
        }
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
        self.delayed = self.delayed.saturating_sub(count);
        Ok(outcomes)
    }

    /// Refuses what is submitted while only the reserve of the disk is left.
    fn spare_reserve(&mut self) {
        let mut next = self.queue.iter().take(MAX_ENTRIES);
        if next.any(is_submission)
            && let Some(reason) = self.disk_reserve.refusal()
        {
            let refused = self.take_submissions(&reason);
            (self.on_outcomes)(refused);
        }
    }

    /// Takes every submission out of the queue, and returns their refusals.
    fn take_submissions(&mut self, reason: &str) -> Vec<(u64, CommitOutcome)> {
        let mut refused = Vec::new();
        self.queue.retain(|entry| {
            let is_submission = is_submission(entry);
            if is_submission {
                refused.push((entry.ticket, CommitOutcome::Refused(reason.to_owned())));
            }
            !is_submission
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
        for entry in self.queue.iter().skip(self.delayed) {
            outcomes.push((entry.ticket, CommitOutcome::Delayed));
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
            let path = self.path.display();
            tracing::error!(
                "{path} cannot be written: {error}. New executions are refused; changes to others \
                 are kept in memory and retried every {} s",
                RETRY_DELAY.as_secs()
            );
        }
    }

    fn log_recovery(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("{} can be written again", self.path.display());
        }
    }
}

fn is_submission(entry: &ChangeEntry) -> bool {
    matches!(entry.change, Change::Submitted { .. })
}
