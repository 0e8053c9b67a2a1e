//! Ending what shims that died have left behind.
//!
//! The launcher is a child subreaper, so the processes of a dead shim become its children: every child that
//! is no shim is such an orphan. They are killed until none is left. Which of them was whose cannot be told
//! any more; where shims die together, what is said of one is said of all.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use escher_protocol::{Exit, Leftovers};
use nix::unistd::Pid;

use crate::descendants::{at_and_below, children};
use crate::sys::process::Reaped;

/// How long after the death of a shim what it has left behind may take to go before it counts as
/// unkillable.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);

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
            self.unkillable.remove(&orphan.pid);
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
