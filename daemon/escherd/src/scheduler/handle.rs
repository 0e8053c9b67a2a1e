//! The task that owns the scheduler, and the handle by which other tasks call it.

use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::{Effect, Scheduler};
use crate::store::{self, CommitOutcome};

/// Calls that may wait for the scheduler. Further callers wait until there is room.
const MAX_QUEUED_CALLS: usize = 1024;

/// Most calls that are handled before their changes go to the store, even if more wait.
const MAX_CALLS_PER_BATCH: usize = 64;

type Call = Box<dyn FnOnce(&mut Scheduler) -> Next + Send>;

/// Whether the task continues after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

/// A handle to the scheduler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SchedulerHandle {
    calls: mpsc::Sender<Call>,
}

/// The scheduler has stopped, because escherd is stopping.
#[derive(Debug, thiserror::Error)]
#[error("escherd is stopping")]
pub struct Stopped;

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        ApiError::new(ErrorCode::SHUTTING_DOWN, stopped.to_string())
    }
}

/// Commit outcomes from the store to the scheduler. Unbounded: there is one per change, and each change answers a
/// request or a shim, whose number is bounded.
pub type CommitOutcomes = mpsc::UnboundedReceiver<Vec<(u64, CommitOutcome)>>;

/// Spawns the task that owns `scheduler`. Changes go to `write`, all other effects to the returned channel, which is
/// unbounded for the same reason.
#[must_use]
pub fn start(
    mut scheduler: Scheduler,
    mut outcomes: CommitOutcomes,
    write: impl Fn(Vec<store::ChangeEntry>) + Send + 'static,
) -> (SchedulerHandle, mpsc::UnboundedReceiver<Effect>) {
    let (calls, mut queued) = mpsc::channel::<Call>(MAX_QUEUED_CALLS);
    let (effects, outgoing) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(MAX_CALLS_PER_BATCH);
        loop {
            let mut next = Next::Continue;
            forward_effects(&mut scheduler, &write, &effects);
            tokio::select! {
                Some(outcomes) = outcomes.recv() => scheduler.on_commits(outcomes, Timestamp::now()),
                count = queued.recv_many(&mut batch, MAX_CALLS_PER_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    for call in batch.drain(..) {
                        if next == Next::Continue {
                            next = call(&mut scheduler);
                        }
                    }
                }
            }
            if next == Next::Stop {
                forward_effects(&mut scheduler, &write, &effects);
                return;
            }
        }
    });
    (SchedulerHandle { calls }, outgoing)
}

fn forward_effects(
    scheduler: &mut Scheduler,
    write: &impl Fn(Vec<store::ChangeEntry>),
    outgoing: &mpsc::UnboundedSender<Effect>,
) {
    let mut entries = Vec::new();
    for effect in scheduler.take_effects() {
        match effect {
            Effect::Commit(entry) => entries.push(*entry),
            // Sending fails only while escherd is stopping.
            effect => drop(outgoing.send(effect)),
        }
    }
    if !entries.is_empty() {
        write(entries);
    }
}

impl SchedulerHandle {
    /// Runs `work` on the scheduler and returns its result.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scheduler) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (responder, result) = oneshot::channel();
        self.post(move |scheduler| drop(responder.send(work(scheduler))))
            .await?;
        result.await.map_err(|_| Stopped)
    }

    /// Runs `work` on the scheduler without waiting for it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn post(
        &self,
        work: impl FnOnce(&mut Scheduler) + Send + 'static,
    ) -> Result<(), Stopped> {
        let work = Box::new(move |scheduler: &mut Scheduler| {
            work(scheduler);
            Next::Continue
        });
        self.calls.send(work).await.map_err(|_| Stopped)
    }

    /// Waits until all changes made so far are committed.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn committed(&self) -> Result<(), Stopped> {
        let committed = self.call(Scheduler::once_committed).await?;
        committed.await.map_err(|_| Stopped)
    }

    /// Stops the scheduler. Waiting callers get [`Stopped`].
    pub async fn stop(&self) {
        let _ = self.calls.send(Box::new(|_| Next::Stop)).await;
    }
}
