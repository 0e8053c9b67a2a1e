//! The watchdog: systemd starts escherd anew when it does not hear for too long that it works (`WatchdogSec=`,
//! systemd.service(5)).

use tokio::time::{MissedTickBehavior, interval};

use super::{Word, mention};
use crate::api::ExecutionEngine;

/// Tells that escherd works for as long as it does: each time the engine has done a piece of work for this. Where
/// nobody wants to know, does nothing.
pub async fn keep_watchdog(engine: ExecutionEngine) {
    let Some(patience) = super::watchdog_patience() else {
        return;
    };
    // Half of the time, as sd_watchdog_enabled(3) recommends.
    let mut ticks = interval(patience / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if engine.counts().await.is_err() {
            return;
        }
        mention(Word::Alive).await;
    }
}
