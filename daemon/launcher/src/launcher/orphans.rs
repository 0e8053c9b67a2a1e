//! Killing the processes that dead shims have left behind.
//!
//! The launcher is a child subreaper, so the processes of a dead shim become its children: every
//! child that is no shim is such an orphan. Orphans are killed until none is left. It is not known
//! which orphan belonged to which shim, so shims that die together are reported with the same
//! [`Leftovers`].

use std::collections::HashSet;
use std::time::Instant;

use escher_protocol::{Exit, Leftovers};
use nix::unistd::Pid;

use crate::os::deadline::UNKILLABLE_AFTER;
use crate::os::process_tree::{children, with_descendants};
use crate::sys::process::Reaped;

/// The orphans of all dead shims.
#[derive(Default)]
pub(super) struct Orphans {
    /// Shims whose orphans are still being killed.
    deaths: Vec<ShimDeath>,
    /// Children that could not be killed. They are not reaped, so no other process has their ids.
    unkillable: HashSet<Pid>,
    /// Whether an orphan that died of SIGKILL was among the last deaths noted. The kernel kills a
    /// main process whose shim dies, and may report that death before the shim's.
    killed_before: bool,
}

/// A shim that has died.
struct ShimDeath {
    shim: Pid,
    give_up_at: Instant,
    /// Whether it has left processes that had to be killed.
    left_processes: bool,
}

impl Orphans {
    /// Notes the children that were reaped since the last call: shims that have died, and orphans.
    pub(super) fn note_deaths(&mut self, shims: &[Pid], orphans: &[Reaped], now: Instant) {
        let mut killed = false;
        for orphan in orphans {
            // Its shim was reported already.
            if self.unkillable.remove(&orphan.pid) {
                continue;
            }
            killed |= matches!(orphan.exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL);
        }
        let killed_before = std::mem::replace(&mut self.killed_before, killed);
        for death in &mut self.deaths {
            death.left_processes |= killed;
        }
        self.deaths.extend(shims.iter().map(|shim| ShimDeath {
            shim: *shim,
            give_up_at: now + UNKILLABLE_AFTER,
            left_processes: killed || killed_before,
        }));
    }

    /// Returns when to call [`Orphans::kill`] if no child ends before; `None` when nothing is being
    /// killed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deaths.iter().map(|death| death.give_up_at).min()
    }

    /// Kills all orphans. Returns the dead shims whose orphans are gone or unkillable, with what
    /// became of them. To be called whenever children have ended, because the children of those are
    /// orphans now.
    pub(super) fn kill(
        &mut self,
        is_shim: impl Fn(Pid) -> bool,
        now: Instant,
    ) -> Vec<(Pid, Leftovers)> {
        if self.deaths.is_empty() {
            return Vec::new();
        }
        let unkillable = &self.unkillable;
        let is_orphan = |child: &Pid| !is_shim(*child) && !unkillable.contains(child);
        let orphans: Vec<Pid> = children().into_iter().filter(is_orphan).collect();
        for orphan in with_descendants(orphans.iter().copied()) {
            orphan.signal(&[libc::SIGKILL]);
        }
        self.take_finished(&orphans, now)
    }

    /// Removes and returns the deaths that are finished, given the orphans that are left.
    fn take_finished(&mut self, orphans: &[Pid], now: Instant) -> Vec<(Pid, Leftovers)> {
        let mut finished = Vec::new();
        self.deaths.retain_mut(|death| {
            death.left_processes |= !orphans.is_empty();
            let leftovers = match (orphans.is_empty(), death.left_processes) {
                (true, false) => Leftovers::None,
                (true, true) => Leftovers::Killed,
                (false, _) if now >= death.give_up_at => Leftovers::Unkillable,
                (false, _) => return true,
            };
            finished.push((death.shim, leftovers));
            false
        });
        if finished
            .iter()
            .any(|death| death.1 == Leftovers::Unkillable)
        {
            self.unkillable.extend(orphans);
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIM: Pid = Pid::from_raw(7);
    const ORPHAN: Pid = Pid::from_raw(70);

    fn reaped(signal: i32) -> Reaped {
        Reaped {
            pid: ORPHAN,
            exit: Exit::Signal {
                signal,
                core_dumped: false,
            },
            user_us: 0,
            system_us: 0,
            peak_memory_bytes: 0,
        }
    }

    #[test]
    fn reports_none_for_a_shim_without_orphans() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        assert_eq!(orphans.deadline(), None);
        orphans.note_deaths(&[SHIM], &[], now);
        assert_eq!(orphans.take_finished(&[], now), [(SHIM, Leftovers::None)]);
        assert_eq!(orphans.deadline(), None);
    }

    #[test]
    fn reports_a_shim_when_its_last_orphan_is_gone() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        orphans.note_deaths(&[SHIM], &[], now);
        assert_eq!(orphans.take_finished(&[ORPHAN], now), []);
        orphans.note_deaths(&[], &[reaped(libc::SIGKILL)], now);
        assert_eq!(orphans.take_finished(&[], now), [(SHIM, Leftovers::Killed)]);
    }

    #[test]
    fn counts_an_orphan_that_dies_before_with_or_after_its_shim() {
        let now = Instant::now();
        let dead = [reaped(libc::SIGKILL)];
        let orders: [&[(&[Pid], &[Reaped])]; 3] = [
            &[(&[], &dead), (&[SHIM], &[])],
            &[(&[SHIM], &dead)],
            &[(&[SHIM], &[]), (&[], &dead)],
        ];
        for order in orders {
            let mut orphans = Orphans::default();
            for (shims, reaped) in order {
                orphans.note_deaths(shims, reaped, now);
            }
            assert_eq!(orphans.take_finished(&[], now), [(SHIM, Leftovers::Killed)]);
        }
        // An orphan that died of another signal was not killed by the launcher or the kernel.
        let mut orphans = Orphans::default();
        orphans.note_deaths(&[SHIM], &[reaped(libc::SIGTERM)], now);
        assert_eq!(orphans.take_finished(&[], now), [(SHIM, Leftovers::None)]);
    }

    #[test]
    fn an_unkillable_orphan_is_reported_for_its_own_shim_only() {
        let start = Instant::now();
        let mut orphans = Orphans::default();
        orphans.note_deaths(&[SHIM], &[], start);
        let due = start + UNKILLABLE_AFTER;
        assert_eq!(orphans.deadline(), Some(due));
        assert_eq!(orphans.take_finished(&[ORPHAN], start), []);
        let over = orphans.take_finished(&[ORPHAN], due);
        assert_eq!(over, [(SHIM, Leftovers::Unkillable)]);
        assert!(orphans.unkillable.contains(&ORPHAN));
        // It is reaped at last.
        orphans.note_deaths(&[], &[reaped(libc::SIGKILL)], due);
        assert!(orphans.unkillable.is_empty());
        orphans.note_deaths(&[SHIM], &[], due);
        assert_eq!(orphans.take_finished(&[], due), [(SHIM, Leftovers::None)]);
    }
}
