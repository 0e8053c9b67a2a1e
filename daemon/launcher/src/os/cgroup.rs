//! One cgroup: its limits, its state, and what the kernel counts for it (cgroups(7), and
//! Documentation/admin-guide/cgroup-v2.rst in the kernel's sources).

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use escher_protocol::{CurrentUsage, Measurements, ResourceLimits};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::descriptor_path::descriptor_path;

/// Period of `cpu.max` in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Most levels of nested cgroups that are removed with the cgroup of a command.
const MAX_DEPTH: usize = 16;

/// An open cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: OwnedFd,
    /// `cgroup.events`, whose changes poll(2) reports as `POLLPRI`.
    events: File,
}

impl Cgroup {
    /// Opens the cgroup of this name in `parent`.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn open(parent: BorrowedFd<'_>, name: &str) -> io::Result<Self> {
        let directory = OwnedFd::from(open(parent, name, OFlag::O_DIRECTORY)?);
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
        }
        if let Some(bytes) = limits.memory_high {
            self.write("memory.high", &bytes.to_string())?;
        }
        if let Some(weight) = limits.cpu_weight {
            self.write("cpu.weight", &weight.to_string())?;
        }
        if let Some(weight) = limits.io_weight {
            self.set_io_weight(weight)?;
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

    /// Sets the weight for every scheduler of I/O that the kernel has: which of them a device uses may
    /// change at any time.
    fn set_io_weight(&self, weight: u32) -> io::Result<()> {
        let [iocost, bfq] = IO_WEIGHTS;
        let iocost = self.write(iocost, &format!("default {weight}"));
        let bfq = self.write(bfq, &bfq_weight(weight).to_string());
        iocost.or(bfq)
    }

    /// Has the OOM killer kill all processes in it together: the rest of a command would end in
    /// unpredictable ways.
    ///
    /// # Errors
    /// Those of open(2) and write(2); `ENOENT` where the controller is missing.
    pub(crate) fn kill_all_when_out_of_memory(&self) -> io::Result<()> {
        self.write("memory.oom.group", "1")
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
        let cpu = read("cpu.stat");
        let io = read("io.stat");
        let cpu = |key| value_of(cpu.as_deref()?, key);
        let io = |key| io.as_deref().map(|text| sum_over_devices(text, key));
        Measurements {
            user_us: cpu("user_usec"),
            system_us: cpu("system_usec"),
            peak_memory_bytes: self.read_number("memory.peak"),
            io_read_bytes: io("rbytes"),
            io_written_bytes: io("wbytes"),
            peak_tasks: self.read_number("pids.peak"),
            oom_kills: read("memory.events").and_then(|text| oom_kills(&text)),
        }
    }

    /// Reads what is used in it at the moment.
    pub(crate) fn current_usage(&self) -> CurrentUsage {
        let Measurements {
            user_us,
            system_us,
            io_read_bytes,
            io_written_bytes,
            ..
        } = self.measure();
        CurrentUsage {
            memory_bytes: self.read_number("memory.current"),
            tasks: self.read_number("pids.current"),
            user_us,
            system_us,
            io_read_bytes,
            io_written_bytes,
        }
    }

    fn read_number(&self, name: &str) -> Option<u64> {
        let text = read(self.directory.as_fd(), name).ok()?;
        text.trim().parse().ok()
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        write(self.directory.as_fd(), name, text)
    }
}

/// The files of a cgroup with the weights of its I/O: of the cost model, and of the scheduler BFQ.
pub(super) const IO_WEIGHTS: [&str; 2] = ["io.weight", "io.bfq.weight"];

/// Returns the weight for BFQ, which takes 1 to 1000, with the same default: as systemd maps it, so that
/// the default stays the same, and the ends meet.
fn bfq_weight(weight: u32) -> u32 {
    const DEFAULT: u32 = ResourceLimits::DEFAULT_WEIGHT;
    if weight <= DEFAULT {
        weight
    } else {
        DEFAULT + (weight - DEFAULT) * (1000 - DEFAULT) / (ResourceLimits::WEIGHT.end() - DEFAULT)
    }
}

/// Reads how many processes the kernel has killed for lack of memory (`memory.events`). Where it kills
/// a whole cgroup (`memory.oom.group`), it counts the process that it has chosen first a second time with
/// the others.
fn oom_kills(events: &str) -> Option<u64> {
    let kills = value_of(events, "oom_kill")?;
    let groups = value_of(events, "oom_group_kill").unwrap_or(0);
    Some(kills.saturating_sub(groups).max(kills.min(1)))
}

/// State of a cgroup (`cgroup.events`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CgroupState {
    /// Whether it has processes.
    pub(crate) is_populated: bool,
    /// Whether all its processes are frozen.
    pub(crate) is_frozen: bool,
}

/// Removes a cgroup without processes, with those that a command, if it is root's, has created below
/// it. Returns whether there is none any more.
pub(super) fn remove_with_descendants(parent: BorrowedFd<'_>, name: &str) -> bool {
    remove(parent, name, MAX_DEPTH)
}

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

/// Opens a file of a cgroup, or a cgroup below it.
pub(super) fn open(directory: BorrowedFd<'_>, name: &str, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}

/// Reads a file of a cgroup.
pub(super) fn read(directory: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let mut text = String::new();
    open(directory, name, OFlag::O_RDONLY)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Writes to a file of a cgroup.
pub(super) fn write(directory: BorrowedFd<'_>, name: &str, text: &str) -> io::Result<()> {
    open(directory, name, OFlag::O_WRONLY)?.write_all(text.as_bytes())
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
    fn a_process_that_is_killed_with_its_cgroup_counts_once() {
        for (kills, groups, expected) in [
            (0, Some(0), 0),
            (1, Some(0), 1),
            (2, Some(1), 1),
            (4, Some(1), 3),
            // The first was gone before it could be counted again.
            (1, Some(1), 1),
            // Linux before 5.17 does not count groups.
            (2, None, 2),
        ] {
            let groups = groups.map(|groups: u64| format!("oom_group_kill {groups}\n"));
            let events = format!("oom 1\noom_kill {kills}\n{}", groups.unwrap_or_default());
            assert_eq!(oom_kills(&events), Some(expected), "{events}");
        }
        assert_eq!(oom_kills("oom 1\n"), None);
    }

    /// A directory with files in the place of the kernel's.
    fn cgroup(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("c");
        fs::create_dir(&path).unwrap();
        for (name, text) in files.iter().chain(&[("cgroup.events", "")]) {
            fs::write(path.join(name), text).unwrap();
        }
        let directory = File::open(parent.path()).unwrap();
        let cgroup = Cgroup::open(directory.as_fd(), "c").unwrap();
        (parent, cgroup)
    }

    #[test]
    fn each_limit_is_written_to_its_file() {
        let names = [
            "memory.max",
            "memory.high",
            "cpu.max",
            "cpu.weight",
            "io.weight",
            "io.bfq.weight",
            "pids.max",
        ];
        let (parent, cgroup) = cgroup(&names.map(|name| (name, "")));
        let limits = ResourceLimits {
            memory_max: Some(2),
            memory_high: Some(1),
            cpu_quota: Some(50),
            cpu_weight: Some(3),
            io_weight: Some(1_200),
            tasks_max: Some(4),
        };
        cgroup.set_limits(&limits).unwrap();
        let written = names.map(|name| fs::read_to_string(parent.path().join("c").join(name)));
        let written = written.map(Result::unwrap);
        let expected = ["2", "1", "50000 100000", "3", "default 1200", "200", "4"];
        assert_eq!(written, expected);
    }

    #[test]
    fn a_weight_of_io_is_set_for_the_scheduler_that_there_is() {
        let weight = ResourceLimits {
            io_weight: Some(100),
            ..ResourceLimits::default()
        };
        for name in IO_WEIGHTS {
            let (_parent, cgroup) = cgroup(&[(name, "")]);
            cgroup.set_limits(&weight).unwrap();
        }
        let (_parent, cgroup) = cgroup(&[]);
        let error = cgroup.set_limits(&weight).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn the_current_usage_is_what_is_counted_and_nothing_else() {
        let (_parent, all) = cgroup(&[
            ("memory.current", "4096\n"),
            ("pids.current", "3\n"),
            ("cpu.stat", "usage_usec 3\nuser_usec 2\nsystem_usec 1\n"),
            ("io.stat", "8:0 rbytes=5 wbytes=6\n"),
        ]);
        let expected = CurrentUsage {
            memory_bytes: Some(4096),
            tasks: Some(3),
            user_us: Some(2),
            system_us: Some(1),
            io_read_bytes: Some(5),
            io_written_bytes: Some(6),
        };
        assert_eq!(all.current_usage(), expected);
        let (_parent, none) = cgroup(&[]);
        assert_eq!(none.current_usage(), CurrentUsage::default());
    }

    #[test]
    fn a_weight_for_bfq_keeps_the_default_and_the_ends() {
        for (weight, expected) in [
            (1, 1),
            (100, 100),
            (101, 100),
            (1_200, 200),
            (10_000, 1_000),
        ] {
            assert_eq!(bfq_weight(weight), expected, "{weight}");
        }
    }

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
