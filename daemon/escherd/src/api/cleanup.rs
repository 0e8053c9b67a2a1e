//! Cleanup: evicts finished executions from memory, removes what is over the limits of the history,
//! and deletes stores that were set aside long ago.

use escher_protocol::message::Removed;
use escher_protocol::{ApiError, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::authz::AdminPermit;
use crate::config::{CleanupSettings, ReloadableSettings};
use crate::scheduler::{Scheduler, SchedulerHandle, Stopped};
use crate::store::{HistoryLimits, HistorySize, Store};

/// Maximum number of executions that are removed in one change of the store.
pub(super) const REMOVAL_BATCH: usize = 1000;

/// The part of a limit, a sixteenth, by which the history may exceed it between two intervals. Then it
/// is cleaned up early; not with each execution that ends, because a cleanup asks for the oldest of
/// every user.
const MAX_EXCESS_DIVISOR: u64 = 16;

/// What the oldest executions lose that are over the limits of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expired {
    /// The record, and all that belongs to it.
    Records,
    /// The log alone.
    Logs,
}

/// Cleans up now, and then at each interval of the current settings, or when the history has grown far
/// over its limits, until the engine stops.
pub(crate) async fn run(
    mut settings: watch::Receiver<ReloadableSettings>,
    scheduler: SchedulerHandle,
    store: Store,
) {
    let mut history = store.watch_history();
    let mut size_after = HistorySize::default();
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
            () = exceed(&mut history, largest_before_cleanup(current.limits, size_after)),
                if current.is_automatic => {}
        }
        last_run = Some(Instant::now());
        match apply_limits(current, &scheduler, &store).await {
            Ok(removed) if removed == Removed::default() => {}
            Ok(Removed {
                executions,
                log_bytes,
            }) => info!(executions, log_bytes, "removed from the history"),
            // The engine has stopped.
            Err(error) if error.code == ApiError::from(Stopped).code => return,
            Err(error) => warn!(%error, "cannot clean up the history"),
        }
        size_after = *history.borrow();
    }
}

/// Returns the size beyond which the history is cleaned up before the interval is over. What the last
/// cleanup has left cannot be removed yet.
fn largest_before_cleanup(limits: HistoryLimits, left: HistorySize) -> HistorySize {
    let largest =
        |limit: u64, left: u64| limit.max(left).saturating_add(limit / MAX_EXCESS_DIVISOR);
    HistorySize {
        executions: largest(limits.max_count, left.executions),
        log_bytes: largest(limits.max_bytes, left.log_bytes),
    }
}

/// Waits until the history is larger than `largest`.
async fn exceed(history: &mut watch::Receiver<HistorySize>, largest: HistorySize) {
    let is_larger = |size: &HistorySize| {
        size.executions > largest.executions || size.log_bytes > largest.log_bytes
    };
    if history.wait_for(is_larger).await.is_err() {
        // The store is closed, and the history does not grow.
        std::future::pending().await
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
/// the history. Deletes stores that were set aside long ago.
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
    for expired in [Expired::Records, Expired::Logs] {
        let mut last = Vec::new();
        loop {
            let (limits, now) = (settings.limits, Timestamp::now());
            let numbers = match expired {
                Expired::Records => store.expired_records(limits, now, REMOVAL_BATCH).await?,
                Expired::Logs => store.expired_logs(limits, now, REMOVAL_BATCH).await?,
            };
            // If the store has not removed the last ones, it would not if this tried again at once.
            if numbers.is_empty() || numbers == last {
                break;
            }
            last.clone_from(&numbers);
            let remove = move |scheduler: &mut Scheduler| match expired {
                Expired::Records => scheduler.remove_finished(numbers),
                Expired::Logs => scheduler.remove_logs(numbers),
            };
            let batch = scheduler.call(remove).await?.await.map_err(|_| Stopped)??;
            removed.executions += batch.executions;
            removed.log_bytes += batch.log_bytes;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    #[test]
    fn a_history_may_exceed_its_limits_a_little_and_keep_what_cannot_be_removed() {
        let limits = HistoryLimits {
            max_age_secs: 0,
            max_bytes: u64::MAX,
            max_count: 160,
            min_age: Duration::ZERO,
        };
        for (left, largest) in [(0, 170), (160, 170), (161, 171), (u64::MAX, u64::MAX)] {
            let left = HistorySize {
                executions: left,
                log_bytes: 7,
            };
            let expected = HistorySize {
                executions: largest,
                log_bytes: u64::MAX,
            };
            assert_eq!(largest_before_cleanup(limits, left), expected);
        }
    }
}
