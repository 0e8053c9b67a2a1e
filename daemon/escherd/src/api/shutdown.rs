//! The end of an engine.

use std::fs::File;
use std::time::Duration;

use escher_protocol::Timestamp;
use nix::fcntl::Flock;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::ExecutionEngine;
use crate::config::OnStop;
use crate::scheduler::SchedulerHandle;

/// How long each of the last steps may take: what has changed on its way to the disk, the launcher's end.
pub(crate) const FAREWELL: Duration = Duration::from_millis(500);

/// What an engine holds until its end.
#[derive(Debug)]
pub(super) struct Hold {
    /// The state directory's lock.
    pub(super) _lock: Flock<File>,
    /// The task that has the launcher.
    pub(super) launching: JoinHandle<()>,
}

impl ExecutionEngine {
    /// Ends the engine, for all its clones. Running commands go on, or are ended first, as `on_stop` says. Afterwards
    /// another engine may be made on the same directories.
    pub async fn shutdown(&self, on_stop: OnStop) {
        self.stop(on_stop).await;
        self.gone().await;
    }

    /// The first half of it: afterwards everything that is asked is answered, with an error at the least.
    pub(crate) async fn stop(&self, on_stop: OnStop) {
        let engine = &self.core.engine;
        if on_stop == OnStop::Cancel {
            info!("ending what runs");
            end_all(engine).await;
        }
        let settled = timeout(FAREWELL, engine.committed()).await.is_ok();
        engine.stop().await;
        if !settled || self.core.store.close(FAREWELL).await.is_err() {
            warn!("the store cannot be written; shims keep what is not on disk");
        }
    }

    /// The second half: the launcher is let go.
    pub(crate) async fn gone(&self) {
        let hold = self.core.hold.lock();
        let hold = hold
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(Hold { launching, _lock }) = hold
            && timeout(FAREWELL, launching).await.is_err()
        {
            warn!("the launcher is still there");
        }
    }
}

/// Runs the kill ladder for everything and waits until it is over. Bounded: each shim gives up on what
/// cannot be killed.
async fn end_all(engine: &SchedulerHandle) {
    let closed = engine.call(|engine| {
        engine.cancel_all(Timestamp::now());
        engine.watch_events()
    });
    let Ok(mut events) = closed.await else { return };
    loop {
        events.borrow_and_update();
        match engine.call(|engine| engine.counts()).await {
            Ok(counts) if counts.pending + counts.running > 0 => {}
            _ => return,
        }
        if events.changed().await.is_err() {
            return;
        }
    }
}
