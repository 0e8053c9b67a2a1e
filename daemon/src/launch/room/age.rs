//! Launches that a shim is too old for.

use escher_launcher::wire::{EndCause, ExitReport, FromShim};
use escher_protocol::{Exit, Leftovers, OutputTotals, StartStage, Timestamp, Usage};
use nix::errno::Errno;
use tracing::warn;

use super::super::shim::Shim;
use super::{Room, Waiting};
use crate::engine::Engine;

impl Room {
    /// A command must not run without the limits that it was to have, and `shim` knows nothing of limits. If it is of
    /// an earlier launcher it goes, and the launch waits for a newer one; if the launcher itself is so old the command
    /// cannot be started.
    pub(super) fn too_old(&mut self, shim: Shim, waiting: Waiting) {
        let is_left_over = |launcher: &super::Connection| launcher.version() > shim.version();
        if self.connection.as_ref().is_some_and(is_left_over) {
            self.forked.remove(&shim.pid());
            self.waiting.push_front(waiting);
            return;
        }
        self.ready.push(shim);
        let id = waiting.id();
        warn!(execution = %id, "the launcher is too old to limit what a command may use; it is not started");
        let now = Timestamp::now();
        let report = ExitReport {
            id,
            exit: Exit::NotStarted {
                stage: StartStage::Limits,
                errno: Errno::ENOTSUP as i32,
            },
            cause: EndCause::Itself,
            ended_by_signal: None,
            started_at: None,
            ended_at: now,
            duration_us: 0,
            usage: Usage::default(),
            output: OutputTotals::default(),
            leftovers: Leftovers::None,
        };
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let news = FromShim::Exited(Box::new(report));
            let tell = move |engine: &mut Engine| engine.shim_news(id, news, now);
            let _ = engine.tell(tell).await;
        });
    }
}
