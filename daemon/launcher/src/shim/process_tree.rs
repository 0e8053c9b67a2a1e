//! The processes of a command: all [descendants](crate::os::process_tree) of the shim. Because the
//! shim is a child subreaper, it has no children exactly when no process of the command is left.

use std::collections::HashSet;

use escher_protocol::{Exit, Usage};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

use crate::os::process_tree::{Descendant, children, group_of, with_descendants};
use crate::sys::process::{Reap, SignalTarget, reap, signal_child};

/// How often the tree is searched for the recipients of a signal.
const SEARCHES: usize = 2;

/// How far apart two readings of the same peak may be: the kernel counts pages for each processor
/// and adds them up from time to time.
const PEAK_ACCURACY: u64 = 1024 * 1024;

/// The processes of one execution.
pub(super) struct ProcessTree {
    main: Pid,
    main_exit: Option<Exit>,
    is_empty: bool,
    usage: Usage,
}

impl ProcessTree {
    pub(super) fn new(main: Pid) -> Self {
        ProcessTree {
            main,
            main_exit: None,
            is_empty: false,
            usage: Usage::default(),
        }
    }

    /// Returns the main process.
    pub(super) fn main(&self) -> Pid {
        self.main
    }

    /// Returns how the main process ended; `None` while it lives.
    pub(super) fn main_exit(&self) -> Option<Exit> {
        self.main_exit
    }

    /// Whether all processes have ended and were reaped.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Returns the resources that the reaped processes have used. The peak memory is 0 where it is
    /// not known: until the main process executes its program, the kernel counts the shim's memory
    /// as its own, so that a smaller peak does not show.
    pub(super) fn usage(&self) -> Usage {
        let own = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
        // In kilobytes (getrusage(2)).
        let own = own.unsigned_abs() * 1024;
        let peak = self.usage.peak_memory_bytes;
        Usage {
            peak_memory_bytes: if peak > own + PEAK_ACCURACY { peak } else { 0 },
            ..self.usage
        }
    }

    /// Reaps all processes that have ended.
    pub(super) fn reap(&mut self) {
        loop {
            match reap() {
                Reap::NoneEnded => return,
                Reap::NoChildren => {
                    self.is_empty = true;
                    return;
                }
                Reap::Reaped(reaped) => {
                    self.usage.user_us += reaped.user_us;
                    self.usage.system_us += reaped.system_us;
                    let peak = &mut self.usage.peak_memory_bytes;
                    *peak = reaped.peak_memory_bytes.max(*peak);
                    if reaped.pid == self.main {
                        self.main_exit = Some(reaped.exit);
                    }
                }
            }
        }
    }

    /// Signals the main process alone, unless it was reaped: its id may belong to another process
    /// then.
    pub(super) fn signal_main(&self, signal: i32) {
        if self.main_exit.is_none() {
            // Fails only for an invalid signal, or for a set-user-ID program, which the shim of
            // another user may not signal.
            let _ = signal_child(self.main, signal, SignalTarget::Process);
        }
    }

    /// Signals the main process's group, unless the main process was reaped.
    pub(super) fn signal_group(&self, signal: i32) {
        // Fails as for the main process alone.
        let _ = self.has_signalled_group(&[signal]);
    }

    /// Signals every process: the main process's group as a whole, then all processes outside it.
    ///
    /// The processes are listed before the first signal: when one dies its children change parents,
    /// and a search at that moment could miss them. A second search finds processes created
    /// meanwhile.
    pub(super) fn signal_all(&self, signals: &[i32]) {
        let mut signalled = HashSet::new();
        for search in 0..SEARCHES {
            let members = self.members();
            let is_group_signalled = search == 0 && self.has_signalled_group(signals);
            for member in members {
                if !signalled.insert(member.process.pid) {
                    continue;
                }
                let by_group = is_group_signalled
                    && (member.process.pid == self.main || member.is_still_in_group(self.main));
                if !by_group {
                    member.process.signal(signals);
                }
            }
        }
    }

    /// Signals the main process's group; returns whether that was possible. The group does not
    /// exist before the main process has created it (setsid(2)), and its id may belong to another
    /// group once the main process was reaped.
    fn has_signalled_group(&self, signals: &[i32]) -> bool {
        let signal = |signal: &i32| signal_child(self.main, *signal, SignalTarget::Group).is_ok();
        self.main_exit.is_none() && signals.iter().all(signal)
    }

    /// Returns all descendants of the shim.
    fn members(&self) -> Vec<Member> {
        if self.is_empty {
            return Vec::new();
        }
        let found = with_descendants(children()).into_iter();
        found
            .map(|process| Member::new(process, self.main))
            .collect()
    }
}

/// A process of the tree, as a search has found it.
struct Member {
    process: Descendant,
    /// Whether it was in the main process's group then.
    was_in_group: bool,
}

impl Member {
    fn new(process: Descendant, main: Pid) -> Self {
        let was_in_group = group_of(process.pid) == Some(main);
        Member {
            process,
            was_in_group,
        }
    }

    /// Whether it was in the group before and after a signal to the group, so that the signal has
    /// reached it.
    fn is_still_in_group(&self, main: Pid) -> bool {
        self.was_in_group && group_of(self.process.pid) == Some(main)
    }
}
