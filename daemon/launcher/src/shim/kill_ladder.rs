//! The kill ladder: SIGTERM or another signal, the grace period, SIGKILL. Pure; the supervisor sends the signals.
//!
//! It has a second beginning for a command that has ended by itself and has left processes: the
//! drain. What is left may end by itself for its first half, because a program at the end of a pipe
//! (`> >(tee log)`) still has to write what it has read. Then comes SIGTERM, and SIGKILL at the end.

use std::time::{Duration, Instant};

use escher_protocol::CancelMode;

use crate::ipc::wire::EndCause;
use crate::os::deadline::UNKILLABLE_AFTER;

/// Position of an execution on the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// The execution is not being ended.
    Ground,
    /// SIGTERM, or another signal, was sent; SIGKILL follows at this time.
    Terminating { kill_at: Instant },
    /// The main process has ended. What is left gets SIGTERM at `terminate_at`, unless it has had
    /// it, and SIGKILL at `kill_at`.
    Draining {
        terminate_at: Option<Instant>,
        kill_at: Instant,
    },
    /// SIGKILL was sent; at this time the shim stops waiting.
    Killing { give_up_at: Instant },
    /// Processes are left long after SIGKILL was sent.
    GivenUp,
}

/// An action that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this signal and SIGCONT to the tree.
    Signal(i32),
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

    /// Begins the ladder for `cause`, with the signal of `mode`. The first cause is kept; a later call
    /// can only hasten the end. A command whose main process has ended did so by itself: what it has
    /// left is killed at once.
    pub(super) fn begin(
        &mut self,
        cause: EndCause,
        mode: CancelMode,
        now: Instant,
    ) -> Option<Step> {
        if self.rung == Rung::Ground {
            self.cause = cause;
        }
        let signal = match mode {
            CancelMode::Graceful => Some(libc::SIGTERM),
            CancelMode::Signal(signal) => Some(signal),
            CancelMode::Kill => None,
        };
        match (self.rung, signal) {
            (Rung::Ground, Some(signal)) => {
                let kill_at = now + self.grace;
                self.rung = Rung::Terminating { kill_at };
                Some(Step::Signal(signal))
            }
            (Rung::Ground | Rung::Terminating { .. }, None) | (Rung::Draining { .. }, _) => {
                Some(self.kill(now))
            }
            _ => None,
        }
    }

    /// Begins the drain: the main process has ended, and the rest has at most this long. The grace
    /// period of a ladder that has begun already is not extended.
    pub(super) fn drain(&mut self, longest: Duration, now: Instant) {
        let end = now + longest;
        let (terminate_at, kill_at) = match self.rung {
            Rung::Ground => (Some(now + longest / 2), end),
            Rung::Terminating { kill_at } => (None, kill_at.min(end)),
            Rung::Draining { .. } | Rung::Killing { .. } | Rung::GivenUp => return,
        };
        self.rung = Rung::Draining {
            terminate_at,
            kill_at,
        };
    }

    /// Limits the time until SIGKILL follows SIGTERM to `longest`, whatever the grace period.
    pub(super) fn limit_grace(&mut self, longest: Duration, now: Instant) {
        if let Rung::Terminating { kill_at } = &mut self.rung {
            *kill_at = (now + longest).min(*kill_at);
        }
    }

    /// Moves on to the step that is due at `now`, if there is one.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Step> {
        match self.rung {
            Rung::Terminating { kill_at } | Rung::Draining { kill_at, .. } if now >= kill_at => {
                Some(self.kill(now))
            }
            Rung::Draining {
                terminate_at: Some(at),
                kill_at,
            } if now >= at => {
                self.rung = Rung::Draining {
                    terminate_at: None,
                    kill_at,
                };
                Some(Step::Signal(libc::SIGTERM))
            }
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
            Rung::Draining {
                terminate_at,
                kill_at,
            } => Some(terminate_at.unwrap_or(kill_at)),
            Rung::Killing { give_up_at } => Some(give_up_at),
            Rung::Ground | Rung::GivenUp => None,
        }
    }

    /// Whether the execution is being ended: a signal was sent.
    pub(super) fn has_begun(&self) -> bool {
        let may_end_by_itself = matches!(
            self.rung,
            Rung::Ground
                | Rung::Draining {
                    terminate_at: Some(_),
                    ..
                }
        );
        !may_end_by_itself
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
    use CancelMode::{Graceful, Kill};
    use EndCause::{Itself, TimedOut};
    use escher_protocol::Canceller;

    const TERM: Step = Step::Signal(libc::SIGTERM);

    const GRACE: Duration = Duration::from_secs(3);

    fn cancelled() -> EndCause {
        EndCause::Cancelled(Canceller::Host)
    }

    #[test]
    fn each_step_follows_at_its_deadline() {
        let start = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        assert_eq!((ladder.deadline(), ladder.take_due(start)), (None, None));
        assert_eq!(ladder.begin(TimedOut, Graceful, start), Some(TERM));
        assert_eq!(ladder.deadline(), Some(start + GRACE));
        assert_eq!(ladder.take_due(start), None);
        assert!(!ladder.is_killing());
        assert_eq!(ladder.take_due(start + GRACE), Some(Step::Kill));
        assert!(ladder.is_killing());
        let last = start + GRACE + UNKILLABLE_AFTER;
        assert_eq!(ladder.deadline(), Some(last));
        assert_eq!(ladder.take_due(start + GRACE), None);
        assert!(!ladder.has_given_up());
        assert_eq!(ladder.take_due(last), Some(Step::GiveUp));
        assert!(ladder.has_given_up());
        assert_eq!((ladder.deadline(), ladder.take_due(last)), (None, None));
    }

    #[test]
    fn a_cancel_may_begin_with_another_signal() {
        let now = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        let interrupt = CancelMode::Signal(libc::SIGINT);
        let step = ladder.begin(cancelled(), interrupt, now);
        assert_eq!(step, Some(Step::Signal(libc::SIGINT)));
        assert_eq!(ladder.begin(cancelled(), interrupt, now), None);
        assert_eq!(ladder.take_due(now + GRACE), Some(Step::Kill));
    }

    #[test]
    fn keeps_the_first_cause_and_a_kill_hastens_the_end() {
        let now = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        ladder.begin(cancelled(), Graceful, now);
        assert_eq!(ladder.begin(TimedOut, Graceful, now), None);
        assert_eq!(ladder.begin(TimedOut, Kill, now), Some(Step::Kill));
        assert_eq!(ladder.begin(TimedOut, Kill, now), None);
        assert_eq!(ladder.cause(), &cancelled());
    }

    #[test]
    fn a_grace_can_be_shortened_but_not_extended() {
        let now = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        ladder.limit_grace(GRACE, now);
        assert_eq!(ladder.deadline(), None);
        ladder.begin(cancelled(), Graceful, now);
        ladder.limit_grace(GRACE * 2, now);
        assert_eq!(ladder.deadline(), Some(now + GRACE));
        ladder.limit_grace(GRACE / 3, now);
        assert_eq!(ladder.take_due(now + GRACE / 3), Some(Step::Kill));
    }

    const DRAIN: Duration = Duration::from_secs(2);

    #[test]
    fn leftovers_have_half_of_the_drain_then_sigterm_then_sigkill() {
        let start = Instant::now();
        let (half, end) = (start + DRAIN / 2, start + DRAIN);
        let mut ladder = KillLadder::new(GRACE);
        ladder.drain(DRAIN, start);
        assert_eq!((ladder.deadline(), ladder.has_begun()), (Some(half), false));
        assert_eq!(ladder.take_due(start), None);
        assert_eq!(ladder.take_due(half), Some(TERM));
        assert_eq!((ladder.deadline(), ladder.has_begun()), (Some(end), true));
        assert_eq!(ladder.take_due(half), None);
        assert_eq!(ladder.take_due(end), Some(Step::Kill));
        assert_eq!(ladder.cause(), &Itself);
        ladder.drain(DRAIN, end);
        assert!(ladder.is_killing());
    }

    #[test]
    fn a_drain_of_zero_kills_at_once() {
        let now = Instant::now();
        let mut ladder = KillLadder::new(GRACE);
        ladder.drain(Duration::ZERO, now);
        assert_eq!(ladder.take_due(now), Some(Step::Kill));
    }

    /// A second SIGTERM has many programs skip what they do at their end.
    #[test]
    fn a_drain_within_a_grace_period_sends_no_second_sigterm_and_extends_nothing() {
        let start = Instant::now();
        for (drain, kill_at) in [(DRAIN, start + DRAIN), (GRACE * 2, start + GRACE)] {
            let mut ladder = KillLadder::new(GRACE);
            ladder.begin(TimedOut, Graceful, start);
            ladder.drain(drain, start);
            assert_eq!(ladder.deadline(), Some(kill_at));
            assert_eq!(ladder.take_due(kill_at), Some(Step::Kill));
            assert_eq!(ladder.cause(), &TimedOut);
        }
    }

    #[test]
    fn a_cancel_during_the_drain_kills_at_once_and_is_not_the_cause() {
        let now = Instant::now();
        for sends_sigterm_first in [false, true] {
            let mut ladder = KillLadder::new(GRACE);
            ladder.drain(DRAIN, now);
            if sends_sigterm_first {
                assert_eq!(ladder.take_due(now + DRAIN / 2), Some(TERM));
            }
            assert_eq!(ladder.begin(cancelled(), Graceful, now), Some(Step::Kill));
            assert_eq!(ladder.begin(cancelled(), Kill, now), None);
            assert_eq!(ladder.cause(), &Itself);
        }
    }
}
