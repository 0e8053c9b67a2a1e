//! Cgroups of commands: one for each execution, in a subtree delegated to the launcher (cgroups(7),
//! and Documentation/admin-guide/cgroup-v2.rst in the kernel's sources).
//!
//! Launcher and shims stay in a leaf of their own, so that killing, freezing or limiting a command
//! never affects its shim.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use escher_protocol::{Controllers, ExecutionId, Measurements, ResourceLimits};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::descriptor_path::descriptor_path;

/// Period of `cpu.max` in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Most levels of nested cgroups that are removed with the cgroup of a command.
const MAX_DEPTH: usize = 16;

/// The subtree in which executions have their cgroups.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: OwnedFd,
    controllers: Controllers,
}

impl Cgroups {
    /// Opens the subtree at `path` and reads which controllers it has.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let root = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        let root = OwnedFd::from(root);
        let enabled = read(root.as_fd(), "cgroup.subtree_control")?;
        let has = |name| enabled.split_ascii_whitespace().any(|word| word == name);
        let controllers = Controllers {
            memory: has("memory"),
            cpu: has("cpu"),
            pids: has("pids"),
            io: has("io"),
        };
        Ok(Cgroups { root, controllers })
    }

    /// Returns which resources can be limited and measured.
    pub(crate) fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Creates the cgroup of an execution and sets its limits.
    ///
    /// # Errors
    /// Those of mkdir(2): `EAGAIN` at the limit of cgroups. For a limit without a controller
    /// `ENOENT`. No cgroup is left behind.
    pub(crate) fn create(&self, id: ExecutionId, limits: &ResourceLimits) -> io::Result<Cgroup> {
        let name = id.to_string();
        mkdirat(&self.root, name.as_str(), Mode::from_bits_truncate(0o755))?;
        let opened = Cgroup::open(self.root.as_fd(), id);
        let limited = opened.and_then(|cgroup| cgroup.set_limits(limits).map(|()| cgroup));
        if limited.is_err() {
            self.remove(id);
        }
        limited
    }

    /// Returns the cgroup of an execution, if it exists.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn find(&self, id: ExecutionId) -> io::Result<Option<Cgroup>> {
        match Cgroup::open(self.root.as_fd(), id) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the cgroup of an execution, unless it has processes. Returns whether there is none
    /// any more.
    pub(crate) fn remove(&self, id: ExecutionId) -> bool {
        remove(self.root.as_fd(), &id.to_string(), MAX_DEPTH)
    }
}

/// The cgroup of one execution.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: OwnedFd,
    /// `cgroup.events`, whose changes poll(2) reports as `POLLPRI`.
    events: File,
}

impl Cgroup {
    fn open(root: BorrowedFd<'_>, id: ExecutionId) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(root, id.to_string().as_str(), flags, Mode::empty())?;
        let events = open(directory.as_fd(), "cgroup.events", OFlag::O_RDONLY)?;
        Ok(Cgroup { directory, events })
    }

    /// Opens `cgroup.procs`, to which a process writes `0` to enter the cgroup.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn open_procs(&self) -> io::Result<OwnedFd> {
        let file = open(self.directory.as_fd(), "cgroup.procs", OFlag::O_WRONLY)?;
        Ok(file.into())
    }

    /// Sets limits. A limit that is `None` stays as it is.
    ///
    /// # Errors
    /// Those of open(2) and write(2); `ENOENT` where the controller is missing.
    pub(crate) fn set_limits(&self, limits: &ResourceLimits) -> io::Result<()> {
        if let Some(bytes) = limits.memory_max {
            self.write("memory.max", &bytes.to_string())?;
            // The OOM killer is to kill the whole command: the rest of one would end in
            // unpredictable ways.
            self.write("memory.oom.group", "1")?;
        }
        if let Some(percent) = limits.cpu_quota {
            let quota = u64::from(percent) * CPU_PERIOD_US / 100;
            self.write("cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
        }
        if let Some(tasks) = limits.tasks_max {
            self.write("pids.max", &tasks.to_string())?;
        }
        Ok(())
    }

    /// Kills all processes in it (`cgroup.kill`, Linux 5.14), including those that are forked
    /// meanwhile.
    ///
    /// # Errors
    /// Those of open(2) and write(2).
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Begins to freeze or thaw all processes in it. [`Cgroup::state`] tells when that is done.
    ///
    /// # Errors
    /// Those of open(2) and write(2).
    pub(crate) fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Returns a descriptor that poll(2) reports with `POLLPRI` when [`Cgroup::state`] changes.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Reads its state.
    ///
    /// # Errors
    /// Those of read(2): `ENODEV` once it was removed.
    pub(crate) fn state(&self) -> io::Result<CgroupState> {
        let mut text = String::new();
        let mut events = &self.events;
        events.rewind()?;
        events.read_to_string(&mut text)?;
        let is_set = |key| value_of(&text, key) == Some(1);
        Ok(CgroupState {
            is_populated: is_set("populated"),
            is_frozen: is_set("frozen"),
        })
    }

    /// Whether it was removed.
    pub(crate) fn is_removed(&self) -> bool {
        let state = self.state();
        state.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
    }

    /// Reads what the kernel has counted for it so far.
    pub(crate) fn measure(&self) -> Measurements {
        let read = |name| read(self.directory.as_fd(), name).ok();
        let number = |name| read(name)?.trim().parse::<u64>().ok();
        let cpu = read("cpu.stat");
        let io = read("io.stat");
        let cpu = |key| value_of(cpu.as_deref()?, key);
        let io = |key| io.as_deref().map(|text| sum_over_devices(text, key));
        Measurements {
            user_us: cpu("user_usec"),
            system_us: cpu("system_usec"),
            peak_memory_bytes: number("memory.peak"),
            io_read_bytes: io("rbytes"),
            io_written_bytes: io("wbytes"),
            peak_tasks: number("pids.peak"),
            oom_kills: read("memory.events").and_then(|text| value_of(&text, "oom_kill")),
        }
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut file = open(self.directory.as_fd(), name, OFlag::O_WRONLY)?;
        file.write_all(text.as_bytes())
    }
}

/// State of a cgroup (`cgroup.events`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CgroupState {
    /// Whether it has processes.
    pub(crate) is_populated: bool,
    /// Whether all its processes are frozen.
    pub(crate) is_frozen: bool,
}

/// Removes a cgroup with those that a command, if it is root's, has created below it.
fn remove(parent: BorrowedFd<'_>, name: &str, depth: usize) -> bool {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return true,
        Err(Errno::EBUSY) if depth > 0 => {}
        Err(_) => return false,
    }
    let Ok(directory) = open(parent, name, OFlag::O_DIRECTORY) else {
        return false;
    };
    let below = fs::read_dir(descriptor_path(directory.as_fd()))
        .into_iter()
        .flatten();
    for entry in below.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(name) = entry.file_name().to_str()
        {
            remove(directory.as_fd(), name, depth - 1);
        }
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir).is_ok()
}

fn open(directory: BorrowedFd<'_>, name: &str, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}

fn read(directory: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let mut text = String::new();
    open(directory, name, OFlag::O_RDONLY)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Returns the value of `key` in lines of `key value`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    let found = pairs.find(|pair| pair.0 == key)?;
    found.1.trim().parse().ok()
}

/// Returns the sum of the values of `key` in `io.stat`, which has a line of `key=value` pairs for
/// each device.
fn sum_over_devices(text: &str, key: &str) -> u64 {
    let pairs = text.split_ascii_whitespace();
    let pairs = pairs.filter_map(|word| word.split_once('='));
    let values = pairs.filter(|pair| pair.0 == key);
    values
        .filter_map(|pair| pair.1.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_keys() {
        let cpu = "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\n";
        assert_eq!(value_of(cpu, "user_usec"), Some(20));
        assert_eq!(value_of(cpu, "system_usec"), Some(10));
        assert_eq!(value_of(cpu, "user"), None);
        assert_eq!(value_of("", "user_usec"), None);
        let io = "8:16 rbytes=1459200 wbytes=314773504 rios=192\n8:0 rbytes=800 wbytes=0 rios=2\n";
        assert_eq!(sum_over_devices(io, "rbytes"), 1_460_000);
        assert_eq!(sum_over_devices(io, "wbytes"), 314_773_504);
        assert_eq!(sum_over_devices("", "rbytes"), 0);
    }
}
