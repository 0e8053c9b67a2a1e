//! The command's processes: all [descendants](crate::os::process_tree) of the shim. Because the shim is a child
//! subreaper, "no children" means that nothing is left.

use std::collections::HashSet;

use escher_protocol::{Exit, Usage};
use nix::unistd::Pid;

use crate::os::process_tree::{Descendant, at_and_below, children, group_of};
use crate::sys::process::{SignalTarget, Wait, reap, signal_child};

/// How often the tree is looked at for one signal.
const LOOKS: usize = 2;

/// The processes of one execution.
pub(super) struct Tree {
    main: Pid,
    main_exit: Option<Exit>,
    empty: bool,
    usage: Usage,
}

impl Tree {
    pub(super) fn new(main: Pid) -> Self {
        Tree {
            main,
            main_exit: None,
            empty: false,
            usage: Usage::default(),
        }
    }

    /// The main process.
    pub(super) fn main(&self) -> Pid {
        self.main
    }

    /// How the main process ended; `None` while it lives.
    pub(super) fn main_exit(&self) -> Option<Exit> {
        self.main_exit
    }

    /// Whether every process has ended and was reaped.
    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }

    /// What those that have ended used.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Reaps all that have ended.
    pub(super) fn reap(&mut self) {
        loop {
            match reap() {
                Wait::None => return,
                Wait::NoChildren => {
                    self.empty = true;
                    return;
                }
                Wait::Reaped(reaped) => {
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

    /// Signals the main process alone. Not if it has ended: its number may be somebody else's.
    pub(super) fn signal_main(&self, signal: i32) {
        if self.main_exit.is_none() {
            // It can fail only for a number that is no signal, or a program that became another user's.
            let _ = signal_child(self.main, signal, SignalTarget::Process);
        }
    }

    /// Signals every process: the main process's group at once, then whoever is not in it.
    ///
    /// Who is there is found out before the first signal: once processes die, their children change
    /// parents, and a look at that moment misses some. A second look finds those made meanwhile.
    pub(super) fn signal_all(&self, signals: &[i32]) {
        let mut reached = HashSet::new();
        for look in 0..LOOKS {
            let found = self.members();
            let group = match look {
                0 => self.signal_group(signals),
                _ => Reach::Nobody,
            };
            for member in found {
                if !reached.insert(member.process.pid) {
                    continue;
                }
                let by_group = group == Reach::Group
                    && (member.process.pid == self.main || member.is_still_in_group(self.main));
                if !by_group {
                    member.process.signal(signals);
                }
            }
        }
    }

    /// There is no group before the main process has made it (setsid(2)), and none that could be named
    /// for sure once it was reaped.
    fn signal_group(&self, signals: &[i32]) -> Reach {
        let reach = |signal: &i32| signal_child(self.main, *signal, SignalTarget::Group).is_ok();
        if self.main_exit.is_none() && signals.iter().all(reach) {
            Reach::Group
        } else {
            Reach::Nobody
        }
    }

    /// All descendants of the shim.
    fn members(&self) -> Vec<Member> {
        if self.empty {
            return Vec::new();
        }
        let found = at_and_below(children()).into_iter();
        found
            .map(|process| Member::new(process, self.main))
            .collect()
    }
}

/// A process of the tree.
struct Member {
    process: Descendant,
    /// Whether it was in the main process's group when it was found.
    in_group: bool,
}

impl Member {
    fn new(process: Descendant, main: Pid) -> Self {
        let in_group = group_of(process.pid) == Some(main);
        Member { process, in_group }
    }

    /// Whether it was in the group all the while, so that a signal to the group has reached it.
    fn is_still_in_group(&self, main: Pid) -> bool {
        self.in_group && group_of(self.process.pid) == Some(main)
    }
}

/// Whom a signal to the main process's group has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nobody,
    Group,
}
