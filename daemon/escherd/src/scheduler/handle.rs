//! The task that owns the engine, and how others reach it.

use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::{Effect, Scheduler};
use crate::store::{self, CommitOutcome};

/// Pieces of work that may wait for the engine. A sender waits when there are more.
const MAX_WAITING_WORK: usize = 1024;

/// Pieces of work after which what they have changed goes to the disk, even if more waits.
const WORK_AT_ONCE: usize = 64;

type Work = Box<dyn FnOnce(&mut Scheduler) -> Next + Send>;

/// Whether the engine goes on after a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// A way to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SchedulerHandle {
    work: mpsc::Sender<Work>,
}

/// The engine is gone: escherd is stopping.
#[derive(Debug, thiserror::Error)]
#[error("escherd is stopping")]
pub struct Stopped;

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        ApiError::new(ErrorCode::SHUTTING_DOWN, stopped.to_string())
    }
}

/// CommitOutcomes of the store on their way to the engine. Without bound: there are as many as changes, and each
/// change answers a request or a shim, of which there is a bounded number.
pub type CommitOutcomes = mpsc::UnboundedReceiver<Vec<(u64, CommitOutcome)>>;

/// Starts the task that owns `engine`. Changes go to `record`, all other effects come out of the returned
/// channel, without bound for the same reason.
#[must_use]
pub fn start(
    mut engine: Scheduler,
    mut outcomes: CommitOutcomes,
    record: impl Fn(Vec<store::ChangeEntry>) + Send + 'static,
) -> (SchedulerHandle, mpsc::UnboundedReceiver<Effect>) {
    let (work, mut waiting) = mpsc::channel::<Work>(MAX_WAITING_WORK);
    let (effects, outside) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(WORK_AT_ONCE);
        loop {
            let mut next = Next::GoOn;
            pass_on(&mut engine, &record, &effects);
            tokio::select! {
                Some(outcomes) = outcomes.recv() => engine.settle(outcomes, Timestamp::now()),
                count = waiting.recv_many(&mut batch, WORK_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    for work in batch.drain(..) {
                        if next == Next::GoOn {
                            next = work(&mut engine);
                        }
                    }
                }
            }
            if next == Next::Stop {
                pass_on(&mut engine, &record, &effects);
                return;
            }
        }
    });
    (SchedulerHandle { work }, outside)
}

fn pass_on(
    engine: &mut Scheduler,
    record: &impl Fn(Vec<store::ChangeEntry>),
    outside: &mpsc::UnboundedSender<Effect>,
) {
    let mut entries = Vec::new();
    for effect in engine.take_effects() {
        match effect {
            Effect::Record(entry) => entries.push(*entry),
            // Nobody outside: escherd is stopping.
            effect => drop(outside.send(effect)),
        }
    }
    if !entries.is_empty() {
        record(entries);
    }
}

impl SchedulerHandle {
    /// Has the engine do something and returns what comes of it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scheduler) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (reply, result) = oneshot::channel();
        self.tell(move |engine| drop(reply.send(work(engine))))
            .await?;
        result.await.map_err(|_| Stopped)
    }

    /// Has the engine do something.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn tell(
        &self,
        work: impl FnOnce(&mut Scheduler) + Send + 'static,
    ) -> Result<(), Stopped> {
        let work = Box::new(move |engine: &mut Scheduler| {
            work(engine);
            Next::GoOn
        });
        self.work.send(work).await.map_err(|_| Stopped)
    }

    /// Waits until everything that the engine has changed so far is on disk.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn settled(&self) -> Result<(), Stopped> {
        let settled = self.call(Scheduler::once_settled).await?;
        settled.await.map_err(|_| Stopped)
    }

    /// Ends the engine. Whoever waits for something of it is told that it has [`Stopped`].
    pub async fn stop(&self) {
        let _ = self.work.send(Box::new(|_| Next::Stop)).await;
    }
}
