//! The command's processes: all descendants of the shim.
//!
//! The shim is a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)): whatever loses its parent becomes its
//! child, so nothing escapes by forking twice or by setsid(2), and "no children" means that nothing is
//! left. A direct child keeps its process id until the shim reaps it; anything deeper is signalled by a
//! pidfd that was checked to be that descendant.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use escher_protocol::{Exit, Usage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::sys::process::{SignalTarget, Wait, open_pidfd, reap, signal_child, signal_pidfd};

/// Most generations below the shim that are looked at. A chain is as deep as a fork bomb makes it; those
/// further down come nearer as those above them die.
const MAX_DEPTH: usize = 64;

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
    pub(super) fn signal_all(&self, signals: &[i32]) {
        if self.empty {
            return;
        }
        for signal in signals {
            let group = self.signal_group(*signal);
            for child in children_of(nix::unistd::getpid()) {
                let reached = match group {
                    // Not by its group of now: the main process may have made one since.
                    Reach::Nobody => false,
                    Reach::Group => child == self.main || group_of(child) == Some(self.main),
                };
                if !reached {
                    let _ = signal_child(child, *signal, SignalTarget::Process);
                }
                // Not reaped by us yet, so the number is still its own.
                if let Ok(pidfd) = open_pidfd(child) {
                    self.signal_below(child, &pidfd, *signal, group, MAX_DEPTH);
                }
            }
        }
    }

    /// There is no group before the main process has made it (setsid(2)), and none that could be named
    /// for sure once it was reaped.
    fn signal_group(&self, signal: i32) -> Reach {
        let gone = self.main_exit.is_some();
        match gone || signal_child(self.main, signal, SignalTarget::Group).is_err() {
            true => Reach::Nobody,
            false => Reach::Group,
        }
    }

    /// Signals the descendants of `parent`, which `parent_fd` holds.
    fn signal_below(
        &self,
        parent: Pid,
        parent_fd: &OwnedFd,
        signal: i32,
        group: Reach,
        depth: usize,
    ) {
        if depth == 0 {
            return;
        }
        for child in children_of(parent) {
            let Ok(child_fd) = open_pidfd(child) else {
                continue;
            };
            // The number may have passed on before the pidfd was opened. It is the child that was
            // listed if it still names this parent, and the parent, still there, is the one we know.
            if parent_of(child) != Some(parent) || has_ended(parent_fd) {
                continue;
            }
            if group == Reach::Nobody || group_of(child) != Some(self.main) {
                let _ = signal_pidfd(child_fd.as_fd(), signal);
            }
            self.signal_below(child, &child_fd, signal, group, depth - 1);
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
