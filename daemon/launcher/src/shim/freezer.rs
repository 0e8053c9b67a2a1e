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
        let Ok(state) = self.cgroup?.state() else {
            // Somebody has removed the cgroup, whose events would be reported for ever.
            self.cgroup = None;
            self.give_up_at = None;
            return std::mem::take(&mut self.is_reported).then_some(false);
        };
        let is_frozen = state.is_frozen;
        if is_frozen == self.is_reported {
            return None;
        }
        self.is_reported = is_frozen;
        self.give_up_at = None;
        Some(is_frozen)
    }

    /// Returns when to check [`Freezer::take_timeout`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.give_up_at
    }

    /// Whether a request to freeze has taken too long. Returned once for each request, even if the
    /// command cannot be thawed then.
    pub(super) fn take_timeout(&mut self, now: Instant) -> bool {
        self.give_up_at.take_if(|at| now >= *at).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    /// The deadline stayed in the past, so that the shim's poll(2) returned at once, again and again.
    #[test]
    fn a_pause_that_is_overdue_and_cannot_be_undone_has_no_deadline_any_more() {
        // Ordinary files in the place of the kernel's.
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("it");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        fs::write(directory.join("cgroup.freeze"), "").unwrap();
        let parent = File::open(root.path()).unwrap();
        let cgroup = Cgroup::open(parent.as_fd(), "it").ok();

        let mut freezer = Freezer::new(cgroup.as_ref());
        let start = Instant::now();
        assert!(freezer.request(true, start));
        let due = start + FREEZE_TIMEOUT;
        assert_eq!(freezer.deadline(), Some(due));
        assert!(!freezer.take_timeout(start));
        fs::remove_file(directory.join("cgroup.freeze")).unwrap();
        assert!(freezer.take_timeout(due));
        assert!(!freezer.request(false, due));
        assert_eq!(freezer.deadline(), None);
        assert!(!freezer.take_timeout(due));
    }
}
