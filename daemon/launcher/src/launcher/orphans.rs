//! Ending what shims that died have left behind.
//!
//! The launcher is a child subreaper, so the processes of a dead shim become its children: every child that
//! is no shim is such an orphan. They are killed until none is left. Which of them was whose cannot be told
//! any more; where shims die together, what is said of one is said of all.

use std::collections::HashSet;
use std::time::Instant;

use escher_protocol::{Exit, Leftovers};
use nix::unistd::Pid;

use crate::os::deadline::UNKILLABLE_AFTER;
use crate::os::process_tree::{at_and_below, children};
use crate::sys::process::Reaped;

/// The orphans of all dead shims.
#[derive(Default)]
pub(super) struct Orphans {
    /// Those whose orphans are still being killed.
    deaths: Vec<Death>,
    /// Children that could not be killed. Not reaped, so that their numbers are their own.
    unkillable: HashSet<Pid>,
    /// Whether the last news had a killed orphan. The kernel kills a main process whose shim dies and may be
    /// faster with it than with the shim.
    killed_before: bool,
}

/// The death of a shim.
struct Death {
    shim: Pid,
    give_up_at: Instant,
    /// Whether it has left anything behind that had to be killed.
    killed: bool,
}

impl Orphans {
    /// What was reaped since the last call: `shims` that have died, and children that were none.
    pub(super) fn note(&mut self, shims: &[Pid], orphans: &[Reaped], now: Instant) {
        let mut killed = false;
        for orphan in orphans {
            // That of a shim of which all was said.
            if self.unkillable.remove(&orphan.pid) {
                continue;
            }
            killed |= matches!(orphan.exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL);
        }
        let killed_before = std::mem::replace(&mut self.killed_before, killed);
        for death in &mut self.deaths {
            death.killed |= killed;
        }
        self.deaths.extend(shims.iter().map(|shim| Death {
            shim: *shim,
            give_up_at: now + UNKILLABLE_AFTER,
            killed: killed || killed_before,
        }));
    }

    /// When [`Orphans::end`] is to be called next, if no child ends before; `None` when nothing is being
    /// ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deaths.iter().map(|death| death.give_up_at).min()
    }

    /// Kills what is there. Returns the dead shims of which no more is to be expected, with what became of
    /// their orphans. To be called whenever children have ended: theirs are the launcher's then.
    pub(super) fn end(
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
        for orphan in at_and_below(orphans.iter().copied()) {
            orphan.signal(&[libc::SIGKILL]);
        }
        self.settle(&orphans, now)
    }

    /// What follows from the children that are orphans still.
    fn settle(&mut self, orphans: &[Pid], now: Instant) -> Vec<(Pid, Leftovers)> {
        let mut over = Vec::new();
        self.deaths.retain_mut(|death| {
            death.killed |= !orphans.is_empty();
            let leftovers = match (orphans.is_empty(), death.killed) {
                (true, false) => Leftovers::None,
                (true, true) => Leftovers::Killed,
                (false, _) if now >= death.give_up_at => Leftovers::Unkillable,
                (false, _) => return true,
            };
            over.push((death.shim, leftovers));
            false
        });
        if over.iter().any(|one| one.1 == Leftovers::Unkillable) {
            self.unkillable.extend(orphans);
        }
        over
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
    fn a_shim_without_a_command_leaves_nothing() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        assert_eq!(orphans.deadline(), None);
        orphans.note(&[SHIM], &[], now);
        assert_eq!(orphans.settle(&[], now), [(SHIM, Leftovers::None)]);
        assert_eq!(orphans.deadline(), None);
    }

    #[test]
    fn a_death_is_over_when_no_orphan_is_left() {
        let now = Instant::now();
        let mut orphans = Orphans::default();
        orphans.note(&[SHIM], &[], now);
        assert_eq!(orphans.settle(&[ORPHAN], now), []);
        orphans.note(&[], &[reaped(libc::SIGKILL)], now);
        assert_eq!(orphans.settle(&[], now), [(SHIM, Leftovers::Killed)]);
    }

    #[test]
    fn an_orphan_may_go_before_with_or_after_its_shim_is_heard_of() {
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
                orphans.note(shims, reaped, now);
            }
            assert_eq!(orphans.settle(&[], now), [(SHIM, Leftovers::Killed)]);
        }
        // One that died of something else was not killed.
        let mut orphans = Orphans::default();
        orphans.note(&[SHIM], &[reaped(libc::SIGTERM)], now);
        assert_eq!(orphans.settle(&[], now), [(SHIM, Leftovers::None)]);
    }

    #[test]
    fn what_does_not_go_is_unkillable_and_held_against_no_other_shim() {
        let start = Instant::now();
        let mut orphans = Orphans::default();
        orphans.note(&[SHIM], &[], start);
        let due = start + UNKILLABLE_AFTER;
        assert_eq!(orphans.deadline(), Some(due));
        assert_eq!(orphans.settle(&[ORPHAN], start), []);
        let over = orphans.settle(&[ORPHAN], due);
        assert_eq!(over, [(SHIM, Leftovers::Unkillable)]);
        assert!(orphans.unkillable.contains(&ORPHAN));
        // Its number is its own until it is reaped.
        orphans.note(&[], &[reaped(libc::SIGKILL)], due);
        assert!(orphans.unkillable.is_empty());
        orphans.note(&[SHIM], &[], due);
        assert_eq!(orphans.settle(&[], due), [(SHIM, Leftovers::None)]);
    }
}
