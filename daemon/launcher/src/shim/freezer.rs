//! Stopping a command where it is and letting it go on, by the freezer of its cgroup.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::os::cgroup::Cgroup;

/// How long it may take until everything is stopped. A process in uninterruptible sleep takes for ever.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whether a command is stopped.
pub(super) struct Pause<'a> {
    cgroup: Option<&'a Cgroup>,
    /// Whether it is to be.
    asked: bool,
    /// Whether it was when [`Pause::changed`] told last.
    told: bool,
    /// Until when that may take.
    give_up_at: Option<Instant>,
}

impl<'a> Pause<'a> {
    pub(super) fn new(cgroup: Option<&'a Cgroup>) -> Self {
        Pause {
            cgroup,
            asked: false,
            told: false,
            give_up_at: None,
        }
    }

    /// Asks the kernel for it, or for its end; whether that could be done.
    pub(super) fn ask(&mut self, on: bool, now: Instant) -> bool {
        let asked = self.cgroup.is_some_and(|cgroup| cgroup.freeze(on).is_ok());
        if asked {
            self.asked = on;
            self.give_up_at = on.then(|| now + DEADLINE);
        }
        asked
    }

    /// Whether it was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether the command is stopped, as far as was told.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// What to poll for `POLLPRI`, and then to ask [`Pause::changed`].
    pub(super) fn awaited(&self) -> Option<BorrowedFd<'a>> {
        let cgroup = self.cgroup.filter(|_| self.asked || self.told);
        cgroup.map(Cgroup::events)
    }

    /// Whether the command is stopped by now, if that is not what was told last.
    pub(super) fn changed(&mut self) -> Option<bool> {
        let is_frozen = self.cgroup?.state().ok()?.frozen;
        if is_frozen == self.told {
            return None;
        }
        self.told = is_frozen;
        self.give_up_at = None;
        Some(is_frozen)
    }

    /// When to ask [`Pause::is_overdue`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.give_up_at
    }

    /// Whether it takes longer than it may.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.give_up_at.is_some_and(|at| now >= at)
    }
}
