//! The command's processes: all descendants of the shim.
//!
//! The shim is a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)): whatever loses its parent becomes its
//! child, so nothing escapes by forking twice or by setsid(2), and "no children" means that nothing is
//! left. A direct child keeps its process id until the shim reaps it; anything deeper is signalled by a
//! pidfd that was checked to be that descendant.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use escher_protocol::{Exit, Usage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::sys::process::{SignalTarget, Wait, open_pidfd, reap, signal_child, signal_pidfd};

/// Most generations below the shim that are looked at. A chain is as deep as a fork bomb makes it; those
/// further down come nearer as those above them die.
const MAX_DEPTH: usize = 64;

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
                if !reached.insert(member.pid) {
                    continue;
                }
                let by_group = group == Reach::Group
                    && (member.pid == self.main || member.is_still_in_group(self.main));
                if !by_group {
                    member.signal(signals);
                }
            }
        }
    }

    /// There is no group before the main process has made it (setsid(2)), and none that could be named
    /// for sure once it was reaped.
    fn signal_group(&self, signals: &[i32]) -> Reach {
        let reach = |signal: &i32| signal_child(self.main, *signal, SignalTarget::Group).is_ok();
        match self.main_exit.is_none() && signals.iter().all(reach) {
            true => Reach::Group,
            false => Reach::Nobody,
        }
    }

    /// All descendants of the shim.
    fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        if self.empty {
            return members;
        }
        for child in children_of(nix::unistd::getpid()) {
            // Not reaped by us yet, so the number is still its own.
            if let Ok(pidfd) = open_pidfd(child) {
                let place = members.len();
                members.push(Member::new(child, pidfd, self.main));
                self.add_below(place, &mut members, MAX_DEPTH);
            }
        }
        members
    }

    /// Adds the descendants of the member at `place`.
    fn add_below(&self, place: usize, members: &mut Vec<Member>, depth: usize) {
        if depth == 0 {
            return;
        }
        let parent = members[place].pid;
        for child in children_of(parent) {
            let Ok(pidfd) = open_pidfd(child) else {
                continue;
            };
            // The number may have passed on before the pidfd was opened. It is the child that was
            // listed if it still names this parent, and the parent, still there, is the one we know.
            if parent_of(child) != Some(parent) || has_ended(&members[place].pidfd) {
                continue;
            }
            let next = members.len();
            members.push(Member::new(child, pidfd, self.main));
            self.add_below(next, members, depth - 1);
        }
    }
}

/// A process of the tree.
struct Member {
    pid: Pid,
    pidfd: OwnedFd,
    /// Whether it was in the main process's group when it was found.
    in_group: bool,
}

impl Member {
    fn new(pid: Pid, pidfd: OwnedFd, main: Pid) -> Self {
        let in_group = group_of(pid) == Some(main);
        Member {
            pid,
            pidfd,
            in_group,
        }
    }

    /// Whether it was in the group all the while, so that a signal to the group has reached it.
    fn is_still_in_group(&self, main: Pid) -> bool {
        self.in_group && group_of(self.pid) == Some(main)
    }

    /// It can fail only for a process that has ended, or has become another user's.
    fn signal(&self, signals: &[i32]) {
        for signal in signals {
            let _ = signal_pidfd(self.pidfd.as_fd(), *signal);
        }
    }
}

/// Whom a signal to the main process's group has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nobody,
    Group,
}

/// The children of all threads of `process` (proc_pid_task_tid_children(5), `CONFIG_PROC_CHILDREN`); none
/// when it is gone.
fn children_of(process: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            let numbers = list.split_ascii_whitespace().map(str::parse);
            numbers.flatten().map(Pid::from_raw).collect::<Vec<_>>()
        })
        .collect()
}

fn parent_of(process: Pid) -> Option<Pid> {
    stat_field(process, 1)
}

fn group_of(process: Pid) -> Option<Pid> {
    stat_field(process, 2)
}

/// A field of /proc/PID/stat, counted from the state on (proc_pid_stat(5)): the name before it is in
/// parentheses and may hold anything.
fn stat_field(process: Pid, index: usize) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let field = rest.split_ascii_whitespace().nth(index)?;
    field.parse().ok().map(Pid::from_raw)
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut one = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut one, PollTimeout::ZERO), Ok(0))
}
