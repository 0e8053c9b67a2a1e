//! Cleanup: evicts finished executions from memory, removes the oldest from the history, and deletes
//! stores that were set aside long ago.

use escher_protocol::message::Removed;
use escher_protocol::{ApiError, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::authz::AdminPermit;
use crate::config::{CleanupSettings, ReloadableSettings};
use crate::scheduler::{Scheduler, SchedulerHandle, Stopped};
use crate::store::Store;

/// Maximum number of executions that are removed in one change of the store.
pub(super) const REMOVAL_BATCH: usize = 1000;

/// Cleans up now, and then at each interval of the current settings, until the engine stops.
pub(crate) async fn run(
    mut settings: watch::Receiver<ReloadableSettings>,
    scheduler: SchedulerHandle,
    store: Store,
) {
    let mut last_run = None;
    loop {
        let current = settings.borrow_and_update().cleanup;
        let due = last_run.map_or_else(Instant::now, |last: Instant| last + current.interval);
        tokio::select! {
            changed = settings.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = sleep_until(due), if current.is_automatic => {}
        }
        last_run = Some(Instant::now());
        match apply_limits(current, &scheduler, &store).await {
            Ok(Removed { executions: 0, .. }) => {}
            Ok(Removed {
                executions,
                log_bytes,
            }) => info!(executions, log_bytes, "executions removed from the history"),
            // The engine has stopped.
            Err(error) if error.code == ApiError::from(Stopped).code => return,
            Err(error) => warn!(%error, "cannot clean up the history"),
        }
    }
}

/// Cleans up once, on request.
///
/// # Errors
/// When the store cannot be read or written.
pub(crate) async fn clean_up(
    _permit: AdminPermit,
    settings: CleanupSettings,
    scheduler: &SchedulerHandle,
    store: &Store,
) -> Result<Removed, ApiError> {
    apply_limits(settings, scheduler, store).await
}

/// Evicts what has been in memory for the retention time, and removes what is over the limits of
/// the history, the oldest first. Deletes stores that were set aside long ago.
async fn apply_limits(
    settings: CleanupSettings,
    scheduler: &SchedulerHandle,
    store: &Store,
) -> Result<Removed, ApiError> {
    let retention = settings.retention;
    let evict = move |scheduler: &mut Scheduler| scheduler.evict(retention, Timestamp::now());
    scheduler.post(evict).await?;
    match store
        .delete_set_aside(settings.set_aside_age, Timestamp::now())
        .await
    {
        Ok(deleted) => {
            for file in deleted {
                info!(file, "deleted: it was set aside, and its time is over");
            }
        }
        Err(error) => warn!(%error, "cannot delete a store that was set aside"),
    }
    let mut removed = Removed::default();
    loop {
        let expired = store
            .expired(settings.limits, Timestamp::now(), REMOVAL_BATCH)
            .await?;
        if expired.is_empty() {
            return Ok(removed);
        }
        let remove = |scheduler: &mut Scheduler| scheduler.remove_finished(expired);
        let batch = scheduler.call(remove).await?.await.map_err(|_| Stopped)??;
        if batch.executions == 0 {
            // The store has not removed them, and would not if this tried again at once.
            return Ok(removed);
        }
        removed.executions += batch.executions;
        removed.log_bytes += batch.log_bytes;
    }
}
