//! The processes below this one, found so that each can be signalled for sure.
//!
//! Shims and the launcher are child subreapers (PR_SET_CHILD_SUBREAPER, prctl(2)): whatever loses its parent
//! becomes their child, so nothing escapes by forking twice or by setsid(2). A direct child keeps its process
//! id until it is reaped; anything deeper is signalled by a pidfd that was checked to be that descendant.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::sys::process::{open_pidfd, signal_pidfd};

/// Most generations that are looked at. A chain is as deep as a fork bomb makes it; those further down
/// come nearer as those above them die.
const MAX_DEPTH: usize = 64;

/// A process below this one.
pub(crate) struct Descendant {
    pub(crate) pid: Pid,
    pidfd: OwnedFd,
}

impl Descendant {
    /// It can fail only for a process that has ended, or has become another user's.
    pub(crate) fn signal(&self, signals: &[i32]) {
        for signal in signals {
            let _ = signal_pidfd(self.pidfd.as_fd(), *signal);
        }
    }
}

/// The children of this process. Those that have ended and were not reaped are among them.
pub(crate) fn children() -> Vec<Pid> {
    children_of(nix::unistd::getpid())
}

/// These `children` of this process, none of which was reaped yet, and everything below them.
pub(crate) fn at_and_below(children: impl IntoIterator<Item = Pid>) -> Vec<Descendant> {
    let mut found = Vec::new();
    for child in children {
        // Not reaped by us yet, so the number is still its own.
        if let Ok(pidfd) = open_pidfd(child) {
            let place = found.len();
            found.push(Descendant { pid: child, pidfd });
            add_below(place, &mut found, MAX_DEPTH);
        }
    }
    found
}

/// Adds what is below the process at `place`.
fn add_below(place: usize, found: &mut Vec<Descendant>, depth: usize) {
    if depth == 0 {
        return;
    }
    let parent = found[place].pid;
    for child in children_of(parent) {
        let Ok(pidfd) = open_pidfd(child) else {
            continue;
        };
        // The number may have passed on before the pidfd was opened. It is the child that was
        // listed if it still names this parent, and the parent, still there, is the one we know.
        if parent_of(child) != Some(parent) || has_ended(&found[place].pidfd) {
            continue;
        }
        let next = found.len();
        found.push(Descendant { pid: child, pidfd });
        add_below(next, found, depth - 1);
    }
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

/// The process group of `process`; `None` when it is gone.
pub(crate) fn group_of(process: Pid) -> Option<Pid> {
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
