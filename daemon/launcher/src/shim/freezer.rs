//! Pausing a command, by the freezer of its cgroup.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::os::cgroup::Cgroup;

/// How long the kernel may take to freeze all processes. A process in uninterruptible sleep may
/// never freeze.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// The freezer of one command.
pub(super) struct Freezer<'a> {
    cgroup: Option<&'a Cgroup>,
    /// Whether the command is to be frozen.
    is_requested: bool,
    /// The state that [`Freezer::take_change`] has returned last.
    is_reported: bool,
    /// When a request to freeze times out.
    give_up_at: Option<Instant>,
}

impl<'a> Freezer<'a> {
    pub(super) fn new(cgroup: Option<&'a Cgroup>) -> Self {
        Freezer {
            cgroup,
            is_requested: false,
            is_reported: false,
            give_up_at: None,
        }
    }

    /// Asks the kernel to freeze or thaw the command. Returns whether it could be asked.
    pub(super) fn request(&mut self, frozen: bool, now: Instant) -> bool {
        let cgroup = self.cgroup;
        let could_ask = cgroup.is_some_and(|cgroup| cgroup.set_frozen(frozen).is_ok());
        if could_ask {
            self.is_requested = frozen;
            self.give_up_at = frozen.then(|| now + FREEZE_TIMEOUT);
        }
        could_ask
    }

    /// Whether the last request was to freeze the command.
    pub(super) fn is_requested(&self) -> bool {
        self.is_requested
    }

    /// Whether the command is frozen, as [`Freezer::take_change`] has returned it last.
    pub(super) fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Returns the descriptor on which `POLLPRI` calls for [`Freezer::take_change`].
    pub(super) fn events(&self) -> Option<BorrowedFd<'a>> {
        let cgroup = self
            .cgroup
            .filter(|_| self.is_requested || self.is_reported);
        cgroup.map(Cgroup::events)
    }

    /// Returns whether the command is frozen, if that has changed since the last call.
    pub(super) fn take_change(&mut self) -> Option<bool> {
        let is_frozen = self.cgroup?.state().ok()?.is_frozen;
        if is_frozen == self.is_reported {
            return None;
        }
        self.is_reported = is_frozen;
        self.give_up_at = None;
        Some(is_frozen)
    }

    /// Returns when to check [`Freezer::has_timed_out`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.give_up_at
    }

    /// Whether a request to freeze has taken too long.
    pub(super) fn has_timed_out(&self, now: Instant) -> bool {
        self.give_up_at.is_some_and(|at| now >= at)
    }
}
