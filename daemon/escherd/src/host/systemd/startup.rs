//! A start that takes its time: a large store is salvaged, many shims are adopted.

use std::time::Duration;

use tokio::time::{Instant, interval_at};

use super::{Word, mention};

/// How long systemd is asked to wait on, each time, in microseconds (`EXTEND_TIMEOUT_USEC`, sd_notify(3)).
const EXTENSION_USEC: u32 = 30_000_000;

/// How often it is asked: well before it would give up, by default after 90 s (systemd.service(5)).
const ASK_EVERY: Duration = Duration::from_secs(10);

/// Does the work of a start, and has systemd wait for as long as that goes on.
pub async fn extending_start<T>(start: impl Future<Output = T>) -> T {
    let mut start = std::pin::pin!(start);
    let mut asks = interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
    loop {
        tokio::select! {
            started = &mut start => return started,
            _ = asks.tick() => mention(Word::Wait(EXTENSION_USEC)).await,
        }
    }
}
