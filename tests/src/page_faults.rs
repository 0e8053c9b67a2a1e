//! How many page faults a program takes, which is most of the cost of a short one.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// What one run of a program has cost.
#[derive(Debug, Clone, Copy)]
pub struct RunCost {
    /// From before its start until it has exited.
    pub time: Duration,
    /// How many pages the kernel had to map into it, without those that it had to read from a disk first.
    pub page_faults: u64,
}

/// Runs a program to its end, with nothing to read and its output dropped.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn run_cost(command: &mut Command) -> RunCost {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
    let time = start.elapsed();
    let page_faults = page_faults(pid);
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    RunCost { time, page_faults }
}

/// Reads the number of a process that was not reaped (proc_pid_stat(5)).
fn page_faults(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may have anything in it.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(7).unwrap().parse().unwrap()
}
