//! Descendants of this process, each with a pidfd, so that a signal reaches the intended process
//! only.
//!
//! Shims, launcher and keeper are child subreapers (PR_SET_CHILD_SUBREAPER, prctl(2)): a descendant
//! that loses its parent becomes their child, so no process escapes by a double fork or setsid(2).
//! A child keeps its process id until it is reaped; a pidfd of a process further down is checked
//! after it was opened.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::sys::process::{open_pidfd, signal_pidfd};

/// Most generations that are searched. A fork bomb can make a chain of any depth; processes further
/// down move up as their ancestors die.
const MAX_DEPTH: usize = 64;

/// A descendant of this process.
pub(crate) struct Descendant {
    pub(crate) pid: Pid,
    pidfd: OwnedFd,
}

impl Descendant {
    /// Sends signals. Errors are ignored: the process has ended, or runs a set-user-ID program.
    pub(crate) fn signal(&self, signals: &[i32]) {
        for signal in signals {
            let _ = signal_pidfd(self.pidfd.as_fd(), *signal);
        }
    }
}

/// Returns the children of this process, zombies included.
pub(crate) fn children() -> Vec<Pid> {
    children_of(nix::unistd::getpid())
}

/// Returns `children` of this process, none of which was reaped yet, and all their descendants.
pub(crate) fn with_descendants(children: impl IntoIterator<Item = Pid>) -> Vec<Descendant> {
    let mut found = Vec::new();
    for child in children {
        // The child was not reaped yet, so no other process has its id.
        if let Ok(pidfd) = open_pidfd(child) {
            let index = found.len();
            found.push(Descendant { pid: child, pidfd });
            add_descendants(index, &mut found, MAX_DEPTH);
        }
    }
    found
}

/// Appends the descendants of the process at `index`.
fn add_descendants(index: usize, found: &mut Vec<Descendant>, depth: usize) {
    if depth == 0 {
        return;
    }
    let parent = found[index].pid;
    for child in children_of(parent) {
        let Ok(pidfd) = open_pidfd(child) else {
            continue;
        };
        // The id may have passed to another process before the pidfd was opened. It has not if the
        // process still has this parent, and the parent still lives.
        if parent_of(child) != Some(parent) || has_ended(&found[index].pidfd) {
            continue;
        }
        let child_index = found.len();
        found.push(Descendant { pid: child, pidfd });
        add_descendants(child_index, found, depth - 1);
    }
}

/// Returns the children of all threads of `process` (proc_pid_task_tid_children(5),
/// `CONFIG_PROC_CHILDREN`); none when the process has ended.
pub(crate) fn children_of(process: Pid) -> Vec<Pid> {
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

/// Returns the process group of `process`; `None` when the process has ended.
pub(crate) fn group_of(process: Pid) -> Option<Pid> {
    stat_field(process, 2)
}

/// Returns a field of /proc/PID/stat, counted from the state (proc_pid_stat(5)): the name before
/// that is in parentheses and may contain any bytes.
fn stat_field(process: Pid, index: usize) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let field = rest.split_ascii_whitespace().nth(index)?;
    field.parse().ok().map(Pid::from_raw)
}

/// Whether a process has ended: its pidfd is readable then (pidfd_open(2)).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut one = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut one, PollTimeout::ZERO), Ok(0))
}
