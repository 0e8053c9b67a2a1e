//! Ending what is left in the cgroups of executions whose shims have died.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use escher_protocol::{ExecutionId, Leftovers};
use nix::poll::{PollFd, PollFlags};

use crate::os::cgroup::{Cgroup, Cgroups};
use crate::os::deadline::UNKILLABLE_AFTER;

/// Cgroups that were killed and are not empty yet.
#[derive(Default)]
pub(super) struct Sweeps(Vec<Sweep>);

struct Sweep {
    id: ExecutionId,
    cgroup: Cgroup,
    give_up_at: Instant,
}

impl Sweeps {
    /// Kills what is in the cgroup of `id`. What came of it, if that is known at once; else [`Sweeps::settle`] tells.
    pub(super) fn begin(
        &mut self,
        id: ExecutionId,
        cgroups: Option<&Cgroups>,
        now: Instant,
    ) -> Option<Leftovers> {
        let Some(cgroups) = cgroups else {
            return Some(Leftovers::Unknown);
        };
        let Ok(found) = cgroups.find(id) else {
            return Some(Leftovers::Unknown);
        };
        let Some(cgroup) = found else {
            return Some(Leftovers::None);
        };
        match cgroup.state() {
            Ok(state) if !state.populated => {
                cgroups.remove(id);
                return Some(Leftovers::None);
            }
            Ok(_) if cgroup.kill().is_ok() => {}
            _ => return Some(Leftovers::Unknown),
        }
        let give_up_at = now + UNKILLABLE_AFTER;
        self.0.push(Sweep {
            id,
            cgroup,
            give_up_at,
        });
        None
    }

    /// What to wait for.
    pub(super) fn awaited(&self) -> impl Iterator<Item = PollFd<'_>> {
        let events = self.0.iter().map(|sweep| sweep.cgroup.events());
        events.map(|events: BorrowedFd<'_>| PollFd::new(events, PollFlags::POLLPRI))
    }

    /// When to call [`Sweeps::settle`] at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|sweep| sweep.give_up_at).min()
    }

    /// Those that are over, with what became of the processes.
    pub(super) fn settle(
        &mut self,
        cgroups: Option<&Cgroups>,
        now: Instant,
    ) -> Vec<(ExecutionId, Leftovers)> {
        let mut over = Vec::new();
        self.0.retain(|sweep| {
            // It cannot be read where it was removed meanwhile.
            let is_empty = sweep.cgroup.state().is_ok_and(|state| !state.populated)
                || sweep.cgroup.is_removed();
            if is_empty {
                cgroups.map(|cgroups| cgroups.remove(sweep.id));
                over.push((sweep.id, Leftovers::Killed));
            } else if now >= sweep.give_up_at {
                over.push((sweep.id, Leftovers::Unkillable));
            }
            !is_empty && now < sweep.give_up_at
        });
        over
    }
}
