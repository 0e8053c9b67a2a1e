//! The kill ladder: SIGTERM, the grace period, SIGKILL. Pure; the supervisor sends the signals.

use std::time::{Duration, Instant};

use crate::ipc::wire::EndCause;
use crate::os::deadline::UNKILLABLE_AFTER;

/// Position of an execution on the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// The execution is not being ended.
    Ground,
    /// SIGTERM was sent; SIGKILL follows at this time.
    Terminating { kill_at: Instant },
    /// SIGKILL was sent; at this time the shim stops waiting.
    Killing { give_up_at: Instant },
    /// Processes are left long after SIGKILL was sent.
    GivenUp,
}

/// An action that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send SIGTERM and SIGCONT to the tree.
    Terminate,
    /// Send SIGKILL to the tree.
    Kill,
    /// Stop waiting for the tree.
    GiveUp,
}

/// The ladder of one execution.
#[derive(Debug)]
pub(super) struct KillLadder {
    rung: Rung,
    grace: Duration,
    cause: EndCause,
}

impl KillLadder {
    pub(super) fn new(grace: Duration) -> Self {
        KillLadder {
            rung: Rung::Ground,
            grace,
            cause: EndCause::Itself,
        }
    }

    /// Returns why the execution is being ended; [`EndCause::Itself`] while it is not.
    pub(super) fn cause(&self) -> &EndCause {
        &self.cause
    }

    /// Begins the ladder for `cause`, with SIGKILL if `kill`. The first cause is kept; a later call
    /// can only hasten the end.
    pub(super) fn begin(&mut self, cause: EndCause, kill: bool, now: Instant) -> Option<Step> {
        if self.rung == Rung::Ground {
            self.cause = cause;
        }
        match (self.rung, kill) {
            (Rung::Ground, false) => {
                let kill_at = now + self.grace;
                self.rung = Rung::Terminating { kill_at };
                Some(Step::Terminate)
            }
            (Rung::Ground | Rung::Terminating { .. }, true) => Some(self.kill(now)),
            _ => None,
        }
    }

    /// Limits the time until SIGKILL follows SIGTERM to `longest`, whatever the grace period.
    pub(super) fn limit_grace(&mut self, longest: Duration, now: Instant) {
        if let Rung::Terminating { kill_at } = &mut self.rung {
            *kill_at = (now + longest).min(*kill_at);
        }
    }

    /// Kills the processes that a main process has left behind, which does not change the cause.
    pub(super) fn kill_leftovers(&mut self, now: Instant) -> Option<Step> {
        match self.rung {
            Rung::Ground | Rung::Terminating { .. } => Some(self.kill(now)),
            Rung::Killing { .. } | Rung::GivenUp => None,
        }
    }

    /// Moves on to the step that is due at `now`, if there is one.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Step> {
        match self.rung {
            Rung::Terminating { kill_at } if now >= kill_at => Some(self.kill(now)),
            Rung::Killing { give_up_at } if now >= give_up_at => {
                self.rung = Rung::GivenUp;
                Some(Step::GiveUp)
            }
            _ => None,
        }
    }

    /// Returns when the next step is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.rung {
            Rung::Terminating { kill_at } => Some(kill_at),
            Rung::Killing { give_up_at } => Some(give_up_at),
            Rung::Ground | Rung::GivenUp => None,
        }
    }

    /// Whether the execution is being ended.
    pub(super) fn has_begun(&self) -> bool {
        self.rung != Rung::Ground
    }

    /// Whether SIGKILL was sent and processes may still be ending.
    pub(super) fn is_killing(&self) -> bool {
        matches!(self.rung, Rung::Killing { .. })
    }

    /// Whether the shim has stopped waiting for processes to end.
    pub(super) fn has_given_up(&self) -> bool {
        self.rung == Rung::GivenUp
    }

    fn kill(&mut self, now: Instant) -> Step {
        let give_up_at = now + UNKILLABLE_AFTER;
        self.rung = Rung::Killing { give_up_at };
        Step::Kill
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndCause::{Itself, TimedOut};
    use escher_protocol::Canceller;

    const GRACE: Duration = Duration::from_secs(3);

    fn cancelled() -> EndCause {
        EndCause::Cancelled(Canceller::Host)
    }

    #[test]
    fn each_step_follows_at_its_deadline() {
        let start = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        assert_eq!((ladder.deadline(), ladder.take_due(start)), (None, None));
        assert_eq!(ladder.begin(TimedOut, false, start), Some(Step::Terminate));
        assert_eq!(ladder.deadline(), Some(start + GRACE));
        assert_eq!(ladder.take_due(start), None);
        assert_eq!(ladder.take_due(start + GRACE), Some(Step::Kill));
        let last = start + GRACE + UNKILLABLE_AFTER;
        assert_eq!(ladder.deadline(), Some(last));
        assert_eq!(ladder.take_due(last), Some(Step::GiveUp));
        assert!(ladder.has_given_up());
        assert_eq!((ladder.deadline(), ladder.take_due(last)), (None, None));
    }

    #[test]
    fn keeps_the_first_cause_and_a_kill_hastens_the_end() {
        let now = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        ladder.begin(cancelled(), false, now);
        assert_eq!(ladder.begin(TimedOut, false, now), None);
        assert_eq!(ladder.begin(TimedOut, true, now), Some(Step::Kill));
        assert_eq!(ladder.begin(TimedOut, true, now), None);
        assert_eq!(ladder.cause(), &cancelled());
    }

    #[test]
    fn a_grace_can_be_shortened_but_not_extended() {
        let now = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        ladder.limit_grace(GRACE, now);
        assert_eq!(ladder.deadline(), None);
        ladder.begin(cancelled(), false, now);
        ladder.limit_grace(GRACE * 2, now);
        assert_eq!(ladder.deadline(), Some(now + GRACE));
        ladder.limit_grace(GRACE / 3, now);
        assert_eq!(ladder.take_due(now + GRACE / 3), Some(Step::Kill));
    }

    #[test]
    fn killing_leftovers_does_not_change_the_cause() {
        let now = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        assert_eq!(ladder.kill_leftovers(now), Some(Step::Kill));
        assert_eq!(ladder.kill_leftovers(now), None);
        assert_eq!(ladder.cause(), &Itself);
    }
}
