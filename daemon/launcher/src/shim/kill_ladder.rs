//! The kill ladder: SIGTERM, the grace period, SIGKILL. Pure; the execution sends the signals.

use std::time::{Duration, Instant};

use crate::ipc::wire::EndCause;
use crate::os::deadline::UNKILLABLE_AFTER;

/// Where on the ladder an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// Nobody has asked for its end.
    Ground,
    /// SIGTERM was sent; SIGKILL follows at this time.
    Terminating { kill_at: Instant },
    /// SIGKILL was sent; at this time the shim stops waiting.
    Killing { give_up_at: Instant },
    /// SIGKILL was sent long ago and something is still there.
    GivenUp,
}

/// What is to be done now.
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
pub(super) struct Ladder {
    rung: Rung,
    grace: Duration,
    cause: EndCause,
}

impl Ladder {
    pub(super) fn new(grace: Duration) -> Self {
        Ladder {
            rung: Rung::Ground,
            grace,
            cause: EndCause::Itself,
        }
    }

    /// Why the execution is being ended; [`EndCause::Itself`] while it is not.
    pub(super) fn cause(&self) -> &EndCause {
        &self.cause
    }

    /// Begins the ladder for `cause`, at its top if `kill`. The first cause stays; a later one can only
    /// hasten the end.
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

    /// Has SIGKILL follow within `most`, whatever the grace.
    pub(super) fn kill_within(&mut self, most: Duration, now: Instant) {
        if let Rung::Terminating { kill_at } = &mut self.rung {
            *kill_at = (now + most).min(*kill_at);
        }
    }

    /// Goes to the top for what a main process has left behind; it is not the execution's cause.
    pub(super) fn sweep(&mut self, now: Instant) -> Option<Step> {
        match self.rung {
            Rung::Ground | Rung::Terminating { .. } => Some(self.kill(now)),
            Rung::Killing { .. } | Rung::GivenUp => None,
        }
    }

    /// What is due at `now`.
    pub(super) fn due(&mut self, now: Instant) -> Option<Step> {
        match self.rung {
            Rung::Terminating { kill_at } if now >= kill_at => Some(self.kill(now)),
            Rung::Killing { give_up_at } if now >= give_up_at => {
                self.rung = Rung::GivenUp;
                Some(Step::GiveUp)
            }
            _ => None,
        }
    }

    /// When [`Ladder::due`] is to be asked next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.rung {
            Rung::Terminating { kill_at } => Some(kill_at),
            Rung::Killing { give_up_at } => Some(give_up_at),
            Rung::Ground | Rung::GivenUp => None,
        }
    }

    /// Whether the end is under way.
    pub(super) fn has_begun(&self) -> bool {
        self.rung != Rung::Ground
    }

    /// Whether SIGKILL was sent and its effect is awaited.
    pub(super) fn is_killing(&self) -> bool {
        matches!(self.rung, Rung::Killing { .. })
    }

    /// Whether the shim has stopped waiting.
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
    fn the_ladder_climbs_by_its_deadlines() {
        let start = Instant::now();
        let mut ladder = Ladder::new(GRACE);
        assert_eq!((ladder.deadline(), ladder.due(start)), (None, None));
        assert_eq!(ladder.begin(TimedOut, false, start), Some(Step::Terminate));
        assert_eq!(ladder.deadline(), Some(start + GRACE));
        assert_eq!(ladder.due(start), None);
        assert_eq!(ladder.due(start + GRACE), Some(Step::Kill));
        let last = start + GRACE + UNKILLABLE_AFTER;
        assert_eq!(ladder.deadline(), Some(last));
        assert_eq!(ladder.due(last), Some(Step::GiveUp));
        assert!(ladder.has_given_up());
        assert_eq!((ladder.deadline(), ladder.due(last)), (None, None));
    }

    #[test]
    fn the_first_cause_stays_and_a_kill_hastens() {
        let now = Instant::now();
        let mut ladder = Ladder::new(GRACE);
        ladder.begin(cancelled(), false, now);
        assert_eq!(ladder.begin(TimedOut, false, now), None);
        assert_eq!(ladder.begin(TimedOut, true, now), Some(Step::Kill));
        assert_eq!(ladder.begin(TimedOut, true, now), None);
        assert_eq!(ladder.cause(), &cancelled());
    }

    #[test]
    fn a_grace_can_be_shortened_and_never_grows() {
        let now = Instant::now();
        let mut ladder = Ladder::new(GRACE);
        ladder.kill_within(GRACE, now);
        assert_eq!(ladder.deadline(), None);
        ladder.begin(cancelled(), false, now);
        ladder.kill_within(GRACE * 2, now);
        assert_eq!(ladder.deadline(), Some(now + GRACE));
        ladder.kill_within(GRACE / 3, now);
        assert_eq!(ladder.due(now + GRACE / 3), Some(Step::Kill));
    }

    #[test]
    fn sweeping_what_is_left_over_is_no_cause() {
        let now = Instant::now();
        let mut ladder = Ladder::new(GRACE);
        assert_eq!(ladder.sweep(now), Some(Step::Kill));
        assert_eq!(ladder.sweep(now), None);
        assert_eq!(ladder.cause(), &Itself);
    }
}
