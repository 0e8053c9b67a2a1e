//! Processes, looked at from outside.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::DEADLINE;

/// A process that descends from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descendant {
    /// Its process id.
    pub pid: Pid,
    /// Its command line, or its name in brackets.
    pub command: String,
}

/// Lists all descendants of `ancestor`, zombies included.
#[must_use]
pub fn descendants(ancestor: Pid) -> Vec<Descendant> {
    let parents: Vec<(Pid, Pid)> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((Pid::from_raw(pid), parent_of(Pid::from_raw(pid))?)))
        .collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        let children = parents.iter().filter(|(_, its)| *its == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    let found = found.into_iter().skip(1);
    found
        .map(|pid| Descendant {
            pid,
            command: command_line(pid),
        })
        .collect()
}

/// The parent of a process; `None` if there is no such process.
#[must_use]
pub fn parent_of(pid: Pid) -> Option<Pid> {
    let parent = status_field(pid, "PPid:")?;
    parent.parse().ok().map(Pid::from_raw)
}

/// The largest resident set that a process ever had, in bytes.
#[must_use]
pub fn peak_memory_bytes(pid: Pid) -> Option<u64> {
    kibibytes(pid, "VmHWM:")
}

/// The resident set of a process, in bytes.
#[must_use]
pub fn resident_bytes(pid: Pid) -> Option<u64> {
    kibibytes(pid, "VmRSS:")
}

fn kibibytes(pid: Pid, field: &str) -> Option<u64> {
    let text = status_field(pid, field)?;
    let kib: u64 = text.trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

fn status_field(pid: Pid, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line[field.len()..].trim().to_owned())
}

fn command_line(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if line.is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        return format!("[{}]", name.trim_end());
    }
    let words = line.split(|byte| *byte == 0);
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    words.join(" ").trim_end().to_owned()
}

/// Whether no process holds a lock (flock(2)) on the file, which has to exist.
///
/// A process that has locked the file for its whole life has exited when this returns true, even if
/// its number is another's by now.
#[must_use]
pub fn is_unlocked(path: &Path) -> bool {
    let file = File::open(path).expect("the file that is locked");
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
}

/// Waits until no process holds such a lock. False after [`DEADLINE`].
#[must_use]
pub fn wait_until_unlocked(path: &Path) -> bool {
    let mut file = File::open(path).expect("the file that is locked");
    let (sender, unlocked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let is_unlocked = loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Err((again, Errno::EINTR)) => file = again,
                locked => break locked.is_ok(),
            }
        };
        // Nobody receives it after the deadline.
        let _ = sender.send(is_unlocked);
    });
    unlocked.recv_timeout(DEADLINE).unwrap_or(false)
}

/// The time of CLOCK_MONOTONIC (clock_gettime(2)), which all processes share.
#[must_use]
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
    now.into()
}

/// Describes how busy the machine is, for readers of measurements: the load averages over 1, 5 and
/// 15 minutes and the number of processors.
#[must_use]
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = load.split(' ').take(3).collect();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("load {} on {processors} processors", averages.join(" "))
}
