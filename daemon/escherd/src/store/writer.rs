//! The thread that writes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::apply::Changes;
use super::columns::signed;
use super::error::DatabaseError;
use super::metrics::Figures;
use super::quarantine::Damage;
use super::totals::WriterState;
use super::{Change, ChangeEntry, CommitOutcome};

/// Most entries of one transaction: what comes meanwhile has to wait for it.
const MAX_GROUP: usize = 1024;

/// The pause after a failure, if nothing new comes before.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Events beyond those that are kept which may wait for their deletion, so that it is not done for each.
const EVENT_SLACK: u64 = 1024;

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    /// To be written, in this order.
    Write(Vec<ChangeEntry>),
    /// To be answered once all that came before is settled and nothing is left over.
    Flush(oneshot::Sender<()>),
    /// The same, with the connection closed and the thread at its end.
    Close(oneshot::Sender<()>),
}

/// Everything that the thread has.
pub(super) struct Writer<F> {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) state: WriterState,
    pub(super) max_events: u64,
    pub(super) settled: F,
    pub(super) finished: Arc<AtomicU64>,
    pub(super) figures: Figures,
    pub(super) damage: Arc<Damage>,
    pub(super) queue: VecDeque<ChangeEntry>,
    /// How many at the front of the queue have failed before.
    pub(super) delayed: usize,
    pub(super) is_failing: bool,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) close: Option<oneshot::Sender<()>>,
}

impl<F: Fn(Vec<(u64, CommitOutcome)>)> Writer<F> {
    /// Writes until it is told to close, or nobody is left who could tell it anything.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        let mut is_connected = true;
        while is_connected && (self.close.is_none() || !self.queue.is_empty()) {
            let first = if self.queue.is_empty() {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                receiver.recv_timeout(RETRY_AFTER)
            };
            match first {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_connected = false,
            }
            while let Ok(message) = receiver.try_recv() {
                self.take(message);
            }
            self.work();
        }
        if !self.queue.is_empty() {
            let (path, count) = (self.path.display(), self.queue.len());
            tracing::error!("{path}: {count} changes could not be written, and are lost");
        }
        // The answer comes after the connection has gone, and the write-ahead log with it.
        let close = self.close.take();
        drop(self);
        if let Some(close) = close {
            let _ = close.send(());
        }
    }

    /// Notes what is to be done.
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Write(entries) => self.queue.extend(entries),
            Message::Flush(done) => self.flushes.push(done),
            Message::Close(done) => self.close = Some(done),
        }
    }

    /// Writes all that waits, or as much as can be written. What cannot stays, in order; but no submission
    /// waits: it is refused at once, and is not written later.
    pub(super) fn work(&mut self) {
        while !self.queue.is_empty() {
            let began = Instant::now();
            match self.transaction() {
                Ok(outcomes) => {
                    self.figures.committed(began.elapsed());
                    self.went_well();
                    (self.settled)(outcomes);
                }
                Err(fault) => {
                    self.figures.failed();
                    self.went_wrong(&fault);
                    // Without the submissions there may be room for the rest.
                    if !self.refuse(&fault) {
                        break;
                    }
                }
            }
        }
        if self.queue.is_empty() {
            for done in self.flushes.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// Writes the first entries of the queue, all or none, and takes them off it.
    fn transaction(&mut self) -> Result<Vec<(u64, CommitOutcome)>, DatabaseError> {
        let mut state = self.state;
        let count = self.queue.len().min(MAX_GROUP);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(count);
        let mut changes = Changes {
            connection: &transaction,
            state: &mut state,
        };
        for entry in self.queue.iter().take(count) {
            outcomes.push((entry.ticket, changes.apply(entry)?));
        }
        trim_events(&transaction, &mut state, self.max_events)?;
        if state.totals.differs(self.state.totals) {
            state.totals.write(&transaction)?;
        }
        transaction.commit()?;
        self.state = state;
        self.finished
            .store(state.totals.finished, Ordering::Relaxed);
        self.queue.drain(..count);
        self.delayed = self.delayed.saturating_sub(count);
        Ok(outcomes)
    }

    /// Refuses every submission that waits, and tells whether there was one. What stays is said to, once.
    fn refuse(&mut self, fault: &DatabaseError) -> bool {
        let reason = if !fault.is_damage() {
            format!("{}: {fault}", self.path.display())
        } else {
            format!(
                "{} is damaged ({fault}); a restart of escherd sets it aside and begins a new one",
                self.path.display()
            )
        };
        let mut refused = Vec::new();
        self.queue.retain(|entry| {
            let is_submission = matches!(entry.change, Change::Submitted { .. });
            if is_submission {
                refused.push((entry.ticket, CommitOutcome::Refused(reason.clone())));
            }
            !is_submission
        });
        let is_any = !refused.is_empty();
        for entry in self.queue.iter().skip(self.delayed) {
            refused.push((entry.ticket, CommitOutcome::Delayed));
        }
        self.delayed = self.queue.len();
        if !refused.is_empty() {
            (self.settled)(refused);
        }
        is_any
    }

    fn went_wrong(&mut self, fault: &DatabaseError) {
        self.damage.note(fault);
        if !std::mem::replace(&mut self.is_failing, true) {
            let path = self.path.display();
            tracing::error!(
                "{path} cannot be written: {fault}. New executions are refused; what is known of others is \
                 kept in memory and tried again every {} s",
                RETRY_AFTER.as_secs()
            );
        }
    }

    fn went_well(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("{} can be written again", self.path.display());
        }
    }
}

/// Deletes the events before the last `kept` ones, now and then.
fn trim_events(
    connection: &Connection,
    state: &mut WriterState,
    kept: u64,
) -> Result<(), DatabaseError> {
    let Some(last_to_go) = state.newest_event.checked_sub(kept) else {
        return Ok(());
    };
    if last_to_go < state.oldest_event.saturating_add(EVENT_SLACK) {
        return Ok(());
    }
    let sql = "DELETE FROM event WHERE sequence <= ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute([signed(last_to_go)])?;
    state.oldest_event = last_to_go + 1;
    Ok(())
}
