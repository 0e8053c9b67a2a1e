//! Tasks that notify systemd: of a start that takes long, of the status, and that escherd is alive.

use std::time::Duration;

use escher_protocol::ApiError;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};

use crate::api::ExecutionEngine;
use crate::host::systemd::{self, PeriodicState, notify_periodically};
use crate::scheduler::Counts;

/// Extension of the start timeout with each request, in microseconds (`EXTEND_TIMEOUT_USEC`,
/// sd_notify(3)).
const START_EXTENSION_USEC: u32 = 30_000_000;

/// Time between two requests: well below the default start timeout of 90 s (systemd.service(5)).
const START_EXTENSION_INTERVAL: Duration = Duration::from_secs(10);

/// Minimum time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `start` and extends systemd's timeout until it is done: salvaging a large store, or
/// adopting many shims, takes its time.
pub(crate) async fn extend_start_timeout<T>(start: impl Future<Output = T>) -> T {
    let mut start = std::pin::pin!(start);
    let mut ticks = interval_at(
        Instant::now() + START_EXTENSION_INTERVAL,
        START_EXTENSION_INTERVAL,
    );
    loop {
        tokio::select! {
            started = &mut start => return started,
            _ = ticks.tick() => {
                notify_periodically(PeriodicState::ExtendStart(START_EXTENSION_USEC)).await;
            }
        }
    }
}

/// Updates the line that `systemctl status` shows, until the engine stops. `reload_failure`: why the
/// last reload of the configuration has failed, if it has.
pub(crate) async fn update_status(
    engine: ExecutionEngine,
    reload_failure: watch::Receiver<Option<String>>,
) {
    if systemd::is_notifiable() {
        // An error means that the engine has stopped.
        let _ = send_changes(&engine, reload_failure).await;
    }
}

async fn send_changes(
    engine: &ExecutionEngine,
    mut reload_failure: watch::Receiver<Option<String>>,
) -> Result<(), ApiError> {
    let mut events = engine.watch_events().await?;
    let mut launcher = engine.watch_launcher();
    let mut sent = String::new();
    loop {
        events.borrow_and_update();
        launcher.borrow_and_update();
        let failure = reload_failure.borrow_and_update().clone();
        let mut line = status_line(engine).await?;
        if let Some(failure) = failure {
            line = format!("{line}; reload failed: {failure}");
        }
        if line != sent {
            notify_periodically(PeriodicState::Status(line.clone())).await;
            sent = line;
        }
        sleep_until(Instant::now() + STATUS_INTERVAL).await;
        let changed = tokio::select! {
            changed = events.changed() => changed,
            changed = launcher.changed() => changed,
            changed = reload_failure.changed() => changed,
        };
        if changed.is_err() {
            return Ok(());
        }
    }
}

async fn status_line(engine: &ExecutionEngine) -> Result<String, ApiError> {
    let Counts {
        pending, running, ..
    } = engine.counts().await?;
    let finished = engine.finished_count().await;
    Ok(if engine.launcher_pid().is_some() {
        format!("serving: {running} running, {pending} waiting, {finished} finished")
    } else {
        let wait = if pending == 1 {
            "command waits"
        } else {
            "commands wait"
        };
        format!("no launcher: {pending} {wait}; {running} running, {finished} finished")
    })
}

/// Sends systemd signs of life, each after the engine has answered a question: systemd restarts an
/// escherd that hangs (`WatchdogSec=`, systemd.service(5)). Does nothing where the watchdog is off.
pub(crate) async fn feed_watchdog(engine: ExecutionEngine) {
    let Some(timeout) = systemd::watchdog_timeout() else {
        return;
    };
    // Half of the timeout, as sd_watchdog_enabled(3) recommends.
    let mut ticks = interval(timeout / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if engine.counts().await.is_err() {
            return;
        }
        notify_periodically(PeriodicState::Alive).await;
    }
}
