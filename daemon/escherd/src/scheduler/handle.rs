//! The task that owns the scheduler, and the handle by which other tasks call it.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep_until;

use super::{Effect, Scheduler};
use crate::store::{CommitOutcome, Intake};
use crate::turns::RoundRobin;

/// Calls that may wait for the scheduler. Further callers wait until there is room.
const MAX_QUEUED_CALLS: usize = 1024;

/// Most calls that are handled before their changes go to the store, even if more wait.
const MAX_CALLS_PER_BATCH: usize = 64;

/// The same for calls on behalf of users, which a call of another user waits for.
const MAX_USER_CALLS_PER_BATCH: usize = 16;

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
    /// Calls of escherd itself.
    calls: mpsc::Sender<Call>,
    user_calls: Arc<UserCalls>,
}

/// Calls on behalf of users, who take turns. Their number is bounded by that of the requests in
/// flight, each of which waits for one at most.
struct UserCalls {
    /// `None` once the scheduler has stopped.
    queued: Mutex<Option<RoundRobin<Call>>>,
    filled: Notify,
}

impl std::fmt::Debug for UserCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserCalls").finish_non_exhaustive()
    }
}

impl UserCalls {
    fn push(&self, uid: u32, call: Call) -> Result<(), Stopped> {
        self.lock().as_mut().ok_or(Stopped)?.push(uid, call);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for the next calls and returns them.
    async fn receive(&self) -> Vec<Call> {
        loop {
            let next = self.take();
            if !next.is_empty() {
                return next;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Vec<Call> {
        let mut queued = self.lock();
        let next = std::iter::from_fn(|| queued.as_mut()?.pop());
        let next = next.take(MAX_USER_CALLS_PER_BATCH);
        next.map(|(_, call)| call).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<RoundRobin<Call>>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses further calls when it is dropped, with the scheduler's task.
struct StopUserCalls(Arc<UserCalls>);

impl Drop for StopUserCalls {
    fn drop(&mut self) {
        // The calls are dropped without the lock: that wakes their callers.
        let queued = self.0.lock().take();
        drop(queued);
    }
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

/// Spawns the task that owns `scheduler`. Changes go to `intake`, all other effects to the returned channel, which is
/// unbounded for the same reason.
#[must_use]
pub fn start(
    mut scheduler: Scheduler,
    mut outcomes: CommitOutcomes,
    mut intake: Intake,
) -> (SchedulerHandle, mpsc::UnboundedReceiver<Effect>) {
    let (calls, mut queued) = mpsc::channel::<Call>(MAX_QUEUED_CALLS);
    let (effects, outgoing) = mpsc::unbounded_channel();
    let user_calls = Arc::new(UserCalls {
        queued: Mutex::new(Some(RoundRobin::default())),
        filled: Notify::new(),
    });
    let stop_user_calls = StopUserCalls(Arc::clone(&user_calls));
    tokio::spawn(async move {
        let user_calls = &stop_user_calls.0;
        let mut received = Vec::new();
        loop {
            forward_effects(&mut scheduler, &mut intake, &effects);
            let batch = tokio::select! {
                Some(outcomes) = outcomes.recv() => {
                    take_outcomes(&mut scheduler, &mut intake, outcomes);
                    Vec::new()
                }
                count = queued.recv_many(&mut received, MAX_CALLS_PER_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    std::mem::take(&mut received)
                }
                calls = user_calls.receive() => calls,
                () = reached(scheduler.next_stdin_deadline()) => {
                    scheduler.lose_due_stdin(Instant::now(), Timestamp::now());
                    Vec::new()
                }
            };
            // A caller that has read the database finds the scheduler no older.
            while let Ok(outcomes) = outcomes.try_recv() {
                take_outcomes(&mut scheduler, &mut intake, outcomes);
            }
            for call in batch {
                if call(&mut scheduler) == Next::Stop {
                    forward_effects(&mut scheduler, &mut intake, &effects);
                    return;
                }
            }
        }
    });
    (SchedulerHandle { calls, user_calls }, outgoing)
}

/// Waits for a deadline; without one, for ever.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// Passes outcomes from the database to the scheduler.
fn take_outcomes(
    scheduler: &mut Scheduler,
    intake: &mut Intake,
    outcomes: Vec<(u64, CommitOutcome)>,
) {
    intake.note_outcomes(&outcomes);
    scheduler.on_commits(outcomes, Timestamp::now());
}

/// Forwards the effects of a turn, and those that follow from changes that are durable at once.
fn forward_effects(
    scheduler: &mut Scheduler,
    intake: &mut Intake,
    outgoing: &mpsc::UnboundedSender<Effect>,
) {
    loop {
        let mut entries = Vec::new();
        for effect in scheduler.take_effects() {
            match effect {
                Effect::Commit(entry) => entries.push(*entry),
                // Sending fails only while escherd is stopping.
                effect => drop(outgoing.send(effect)),
            }
        }
        if entries.is_empty() {
            return;
        }
        let outcomes = intake.write(entries);
        scheduler.on_commits(outcomes, Timestamp::now());
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

    /// Runs `work` on the scheduler in the turn of the user `uid`, and returns its result.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn call_for<R: Send + 'static>(
        &self,
        uid: u32,
        work: impl FnOnce(&mut Scheduler) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (responder, result) = oneshot::channel();
        let call = Box::new(move |scheduler: &mut Scheduler| {
            drop(responder.send(work(scheduler)));
            Next::Continue
        });
        self.user_calls.push(uid, call)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testbed::settings;

    #[test]
    fn a_call_of_another_user_waits_for_one_of_those_before_it() {
        let calls = UserCalls {
            queued: Mutex::new(Some(RoundRobin::default())),
            filled: Notify::new(),
        };
        let call = || -> Call { Box::new(|_| Next::Continue) };
        for _ in 0..1000 {
            calls.push(1, call()).unwrap();
        }
        let stop = || -> Call { Box::new(|_| Next::Stop) };
        calls.push(2, stop()).unwrap();
        let mut scheduler = Scheduler::new(settings(10));
        let batch = calls.take();
        assert_eq!(batch.len(), MAX_USER_CALLS_PER_BATCH);
        let place = batch
            .into_iter()
            .position(|call| call(&mut scheduler) == Next::Stop);
        assert_eq!(place, Some(1));
    }
}
