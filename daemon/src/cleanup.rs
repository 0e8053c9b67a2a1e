//! What is kept of finished executions, and for how long.

use std::time::Duration;

use escher_protocol::message::Removed;
use escher_protocol::{ApiError, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::engine::{Engine, EngineHandle, Stopped};
use crate::server::FORGET_AT_ONCE;
use crate::store::{HistoryLimits, Store};

/// How much is kept, and how that is seen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupSettings {
    /// Whether it is seen to at all.
    pub is_automatic: bool,
    /// How often.
    pub interval: Duration,
    /// How long a finished execution stays in memory.
    pub retention: Duration,
    /// How much stays at all.
    pub limits: HistoryLimits,
}

/// Cleans up at once and then again and again, until the engine is gone.
pub async fn run(settings: CleanupSettings, engine: EngineHandle, store: Store) {
    if !settings.is_automatic {
        return;
    }
    let mut ticks = interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let retention = settings.retention;
        let evict = move |engine: &mut Engine| engine.evict(retention, Timestamp::now());
        if engine.tell(evict).await.is_err() {
            return;
        }
        match enforce(settings.limits, &engine, &store).await {
            Ok(Removed { executions: 0, .. }) => {}
            Ok(Removed {
                executions,
                log_bytes,
            }) => info!(
                executions,
                log_bytes, "forgotten for their age or for want of room"
            ),
            Err(error) => warn!(%error, "the history cannot be cleaned up"),
        }
    }
}

/// Forgets what is over the limits, the oldest first.
async fn enforce(
    limits: HistoryLimits,
    engine: &EngineHandle,
    store: &Store,
) -> Result<Removed, ApiError> {
    let mut removed = Removed::default();
    loop {
        let expired = store
            .expired(limits, Timestamp::now(), FORGET_AT_ONCE)
            .await?;
        if expired.is_empty() {
            return Ok(removed);
        }
        let forget = |engine: &mut Engine| engine.forget(expired);
        let forgotten = engine.call(forget).await?.await.map_err(|_| Stopped)??;
        if forgotten.executions == 0 {
            // The store has them and does not let go: nothing is gained by asking again now.
            return Ok(removed);
        }
        removed.executions += forgotten.executions;
        removed.log_bytes += forgotten.log_bytes;
    }
}
