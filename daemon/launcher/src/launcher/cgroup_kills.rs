//! Killing the processes in the cgroups of executions whose shims have died.

use std::io;
use std::time::Instant;

use escher_protocol::{ExecutionId, Leftovers};
use nix::poll::{PollFd, PollFlags};

use crate::os::cgroup::Cgroup;
use crate::os::deadline::UNKILLABLE_AFTER;
use crate::os::execution_cgroups::{CgroupName, ExecutionCgroups};

/// Cgroups that were killed and are not empty yet.
#[derive(Default)]
pub(super) struct CgroupKills(Vec<CgroupKill>);

struct CgroupKill {
    id: ExecutionId,
    name: CgroupName,
    cgroup: Cgroup,
    give_up_at: Instant,
}

impl CgroupKills {
    /// Kills the processes in the cgroup of `id`. Returns what became of them if that is known at
    /// once; else [`CgroupKills::take_finished`] will.
    pub(super) fn begin(
        &mut self,
        id: ExecutionId,
        cgroups: Option<&ExecutionCgroups>,
        now: Instant,
    ) -> Option<Leftovers> {
        let Some(cgroups) = cgroups else {
            return Some(Leftovers::Unknown);
        };
        let (name, cgroup) = match find(cgroups, id) {
            Ok(Some(found)) => found,
            Ok(None) => return Some(Leftovers::None),
            Err(_) => return Some(Leftovers::Unknown),
        };
        match cgroup.state() {
            Ok(state) if !state.is_populated => {
                cgroups.remove(&name);
                return Some(Leftovers::None);
            }
            Ok(_) if cgroup.kill().is_ok() => {}
            _ => return Some(Leftovers::Unknown),
        }
        let give_up_at = now + UNKILLABLE_AFTER;
        self.0.push(CgroupKill {
            id,
            name,
            cgroup,
            give_up_at,
        });
        None
    }

    /// Returns the descriptors whose events call for [`CgroupKills::take_finished`].
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let events = self.0.iter().map(|kill| kill.cgroup.events());
        events.map(|events| PollFd::new(events, PollFlags::POLLPRI))
    }

    /// Returns when to call [`CgroupKills::take_finished`] at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|kill| kill.give_up_at).min()
    }

    /// Removes and returns the kills that are finished, with what became of the processes.
    pub(super) fn take_finished(
        &mut self,
        cgroups: Option<&ExecutionCgroups>,
        now: Instant,
    ) -> Vec<(ExecutionId, Leftovers)> {
        let mut finished = Vec::new();
        self.0.retain(|kill| {
            // The state cannot be read once the cgroup was removed by others.
            let is_empty = kill.cgroup.state().is_ok_and(|state| !state.is_populated)
                || kill.cgroup.is_removed();
            if is_empty {
                cgroups.map(|cgroups| cgroups.remove(&kill.name));
                finished.push((kill.id, Leftovers::Killed));
            } else if now >= kill.give_up_at {
                finished.push((kill.id, Leftovers::Unkillable));
            }
            !is_empty && now < kill.give_up_at
        });
        finished
    }
}

fn find(cgroups: &ExecutionCgroups, id: ExecutionId) -> io::Result<Option<(CgroupName, Cgroup)>> {
    let Some(name) = cgroups.list()?.remove(&id) else {
        return Ok(None);
    };
    let cgroup = cgroups.open_existing(&name)?;
    Ok(cgroup.map(|cgroup| (name, cgroup)))
}
