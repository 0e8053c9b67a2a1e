//! What is kept of finished executions, and for how long.

use escher_protocol::message::Removed;
use escher_protocol::{ApiError, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::authz::AdminPermit;
use crate::config::{CleanupSettings, ExecutionSettings};
use crate::scheduler::{Scheduler, SchedulerHandle, Stopped};
use crate::store::Store;

/// Executions that are forgotten in one change of the store.
pub const FORGET_AT_ONCE: usize = 1000;

/// Cleans up at once and then again and again, as the settings say at the time, until the engine is gone.
pub(crate) async fn run(
    mut settings: watch::Receiver<ExecutionSettings>,
    engine: SchedulerHandle,
    store: Store,
) {
    let mut last = None;
    loop {
        let now = settings.borrow_and_update().cleanup;
        let due = last.map_or_else(Instant::now, |last: Instant| last + now.interval);
        tokio::select! {
            changed = settings.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = sleep_until(due), if now.is_automatic => {}
        }
        last = Some(Instant::now());
        match keep_to(now, &engine, &store).await {
            Ok(Removed { executions: 0, .. }) => {}
            Ok(Removed {
                executions,
                log_bytes,
            }) => info!(
                executions,
                log_bytes, "forgotten for their age or for want of room"
            ),
            // The engine is gone.
            Err(error) if error.code == ApiError::from(Stopped).code => return,
            Err(error) => warn!(%error, "the history cannot be cleaned up"),
        }
    }
}

/// Cleans up once, for somebody who may have that done.
///
/// # Errors
/// A store that cannot be read or written.
pub(crate) async fn clean_up(
    _permit: AdminPermit,
    settings: CleanupSettings,
    engine: &SchedulerHandle,
    store: &Store,
) -> Result<Removed, ApiError> {
    keep_to(settings, engine, store).await
}

/// Has leave memory what has been there for long enough, and forgets what is over the limits, the oldest first.
async fn keep_to(
    settings: CleanupSettings,
    engine: &SchedulerHandle,
    store: &Store,
) -> Result<Removed, ApiError> {
    let retention = settings.retention;
    let evict = move |engine: &mut Scheduler| engine.evict(retention, Timestamp::now());
    engine.post(evict).await?;
    let mut removed = Removed::default();
    loop {
        let expired = store
            .expired(settings.limits, Timestamp::now(), FORGET_AT_ONCE)
            .await?;
        if expired.is_empty() {
            return Ok(removed);
        }
        let forget = |engine: &mut Scheduler| engine.remove_finished(expired);
        let forgotten = engine.call(forget).await?.await.map_err(|_| Stopped)??;
        if forgotten.executions == 0 {
            // The store has them and does not let go: nothing is gained by asking again now.
            return Ok(removed);
        }
        removed.executions += forgotten.executions;
        removed.log_bytes += forgotten.log_bytes;
    }
}
