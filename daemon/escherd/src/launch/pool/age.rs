//! Launches that a shim is too old for.

use escher_launcher::ipc::wire::{EndCause, ExitReport, FromShim};
use escher_protocol::{Exit, Leftovers, OutputTotals, StartStage, Timestamp, Usage};
use nix::errno::Errno;
use tracing::warn;

use super::super::shim::Shim;
use super::{Room, Waiting};
use crate::scheduler::Scheduler;

impl Room {
    /// A command must not run without the limits that it was to have, and `shim` knows nothing of limits. If a newer
    /// one may come, this one goes and the launch waits; else the command cannot be started.
    pub(super) fn too_old(&mut self, shim: Shim, waiting: Waiting) {
        let launcher = self.connection.as_ref().map(super::Connection::version);
        if may_be_followed(shim.version(), launcher) {
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
            let tell = move |engine: &mut Scheduler| engine.shim_news(id, news, now);
            let _ = engine.post(tell).await;
        });
    }
}

/// Whether a shim of this version may be followed by a newer one: it is of an earlier launcher than that of the moment,
/// or there is none at the moment (`None`), and the next will say how old it is.
fn may_be_followed(shim: u16, launcher: Option<u16>) -> bool {
    launcher.is_none_or(|launcher| launcher > shim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_waits_for_a_newer_shim_unless_the_launcher_has_none() {
        assert!(
            may_be_followed(3, Some(4)),
            "left over by an earlier launcher"
        );
        assert!(may_be_followed(3, None), "nobody knows what comes");
        assert!(!may_be_followed(3, Some(3)));
    }
}
