//! Cleanup: evicts finished executions from memory, and removes those beyond the history's limits.

use escher_protocol::message::Removed;
use escher_protocol::{ApiError, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::authz::AdminPermit;
use crate::config::{CleanupSettings, ExecutionSettings};
use crate::scheduler::{Scheduler, SchedulerHandle, Stopped};
use crate::store::Store;

/// Most executions that one change of the store removes, so that no transaction takes long.
pub(super) const MAX_REMOVED_AT_ONCE: usize = 1000;

/// Cleans up at once and then at every interval, if that is on, by the settings at the time.
/// Returns when the scheduler has stopped.
pub(crate) async fn run(
    mut settings: watch::Receiver<ExecutionSettings>,
    scheduler: SchedulerHandle,
    store: Store,
) {
    let mut last = None;
    loop {
        let cleanup = settings.borrow_and_update().cleanup;
        let due = last.map_or_else(Instant::now, |last: Instant| last + cleanup.interval);
        tokio::select! {
            changed = settings.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = sleep_until(due), if cleanup.is_automatic => {}
        }
        last = Some(Instant::now());
        match enforce(cleanup, &scheduler, &store).await {
            Ok(Removed { executions: 0, .. }) => {}
            Ok(Removed {
                executions,
                log_bytes,
            }) => info!(
                executions,
                log_bytes, "removed executions beyond the limits of the history"
            ),
            Err(error) if error.code == ApiError::from(Stopped).code => return,
            Err(error) => warn!(%error, "cannot clean up the history"),
        }
    }
}

/// Cleans up once, on request.
///
/// # Errors
/// `internal` if the store cannot be read, `store-unavailable` if it cannot be written,
/// `shutting-down`.
pub(crate) async fn clean_up(
    _permit: AdminPermit,
    settings: CleanupSettings,
    scheduler: &SchedulerHandle,
    store: &Store,
) -> Result<Removed, ApiError> {
    enforce(settings, scheduler, store).await
}

/// Evicts executions from memory whose retention is over, and removes the oldest ones beyond the
/// limits. Returns the totals of removed executions.
async fn enforce(
    settings: CleanupSettings,
    scheduler: &SchedulerHandle,
    store: &Store,
) -> Result<Removed, ApiError> {
    let retention = settings.retention;
    let evict = move |scheduler: &mut Scheduler| scheduler.evict(retention, Timestamp::now());
    scheduler.post(evict).await?;
    let mut total = Removed::default();
    loop {
        let expired = store
            .expired(settings.limits, Timestamp::now(), MAX_REMOVED_AT_ONCE)
            .await?;
        if expired.is_empty() {
            return Ok(total);
        }
        let remove = |scheduler: &mut Scheduler| scheduler.remove_finished(expired);
        let removed = scheduler.call(remove).await?.await.map_err(|_| Stopped)??;
        if removed.executions == 0 {
            // The store lists them but does not remove them: a repeat would not change that.
            return Ok(total);
        }
        total.executions += removed.executions;
        total.log_bytes += removed.log_bytes;
    }
}
