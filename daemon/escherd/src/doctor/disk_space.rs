//! Diagnoses the disks of logs and state: how much can still be written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_protocol::{Diagnostic, Severity};
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::format_bytes;
use crate::config::{EngineSettings, ReloadableSettings};
use crate::host::free_space::free_bytes;

const MIB: u64 = 1024 * 1024;

/// Free bytes below which a disk is almost full, whatever the settings.
const ALMOST_FULL_BYTES: u64 = 64 * MIB;

/// Free bytes below which writing may fail at any time.
const FULL_BYTES: u64 = MIB;

/// Free inodes below which a disk is almost full: an execution takes up to three.
const ALMOST_FULL_FILES: u64 = 1000;

/// What unprivileged users can still write to a file system (statvfs(3)).
#[derive(Debug, Clone, Copy)]
struct DiskSpace {
    free_bytes: u64,
    /// Free inodes; `None`: the file system has no fixed number.
    free_files: Option<u64>,
    is_read_only: bool,
}

/// The process that writes to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// escherd, or its child, which has the same view of the file system.
    Escherd,
    /// A launcher with a view of its own.
    Launcher,
}

/// Space that is kept free.
#[derive(Debug, Clone, Copy)]
struct Reserve {
    /// Its size in bytes; 0: there is none.
    bytes: u64,
    /// The setting.
    setting: &'static str,
    /// What happens when no more than this is free.
    consequence: &'static str,
}

/// Diagnoses the disks.
pub(super) fn diagnose(
    settings: &EngineSettings,
    in_force: &ReloadableSettings,
) -> Vec<Diagnostic> {
    // Where escherd is confined, it sees the directory that the launcher service writes to
    // read-only.
    let log_writer = match settings.launcher_socket {
        Some(_) => Writer::Launcher,
        None => Writer::Escherd,
    };
    let log_reserve = Reserve {
        bytes: in_force.log_limits.min_free_bytes,
        setting: "log_min_free_bytes",
        consequence: "logs cannot grow",
    };
    let store_reserve = Reserve {
        bytes: in_force.store_min_free_bytes,
        setting: "store.min_free_bytes",
        consequence: "new executions are refused",
    };
    let (log_dir, state_dir) = (&settings.log_dir, &settings.state_dir);
    vec![
        diagnose_disk("log-space", log_dir, log_reserve, log_writer),
        diagnose_disk("state-space", state_dir, store_reserve, Writer::Escherd),
    ]
}

fn diagnose_disk(check: &'static str, path: &Path, reserve: Reserve, writer: Writer) -> Diagnostic {
    let shown = path.display();
    let stat = match statvfs(path) {
        Ok(stat) => stat,
        Err(error) => {
            let message = format!("cannot find out the free space of {shown}: {error}");
            return Diagnostic::failure(check, message);
        }
    };
    let space = DiskSpace {
        free_bytes: free_bytes(&stat),
        free_files: (stat.files() > 0).then(|| stat.files_available()),
        is_read_only: match writer {
            Writer::Escherd => stat.flags().contains(FsFlags::ST_RDONLY),
            Writer::Launcher => is_on_read_only_device(path),
        },
    };
    let (severity, message) = judge(space, reserve);
    let diagnostic = Diagnostic::new(check, severity, format!("{shown}: {message}"));
    match severity {
        Severity::Ok => diagnostic,
        _ if space.is_read_only => diagnostic.advise(
            "`dmesg` may show the cause. Once it is gone, `mount -o remount,rw` makes the file \
             system writable again",
        ),
        _ => diagnostic.advise(format!(
            "free some space, for example with `escherctl prune --until 7d`, or move the directory \
             to a larger disk (`df -h {shown}`, `df -i {shown}`)"
        )),
    }
}

/// Whether the file system of `path` is read-only for all processes, not only in escherd's view.
fn is_on_read_only_device(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = fs::metadata(path).map(|metadata| metadata.dev());
    let device = device.map(|device| format!("{}:{}", major(device), minor(device)));
    device.is_ok_and(|device| {
        let mut lines = mounts.lines();
        lines.any(|line| is_read_only_device(line, &device))
    })
}

/// Whether a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)) says that this device is
/// read-only.
fn is_read_only_device(line: &str, device: &str) -> bool {
    let is_same = line.split(' ').nth(2) == Some(device);
    let options = line.rsplit(' ').next().unwrap_or_default();
    is_same && options.split(',').next() == Some("ro")
}

fn judge(space: DiskSpace, reserve: Reserve) -> (Severity, String) {
    let free = format_bytes(space.free_bytes);
    if space.is_read_only {
        return (Severity::Failure, "the file system is read-only".to_owned());
    }
    if reserve.bytes > 0 && space.free_bytes <= reserve.bytes {
        let (setting, consequence) = (reserve.setting, reserve.consequence);
        let minimum = format_bytes(reserve.bytes);
        let message = format!("{free} free, {setting} is {minimum}: {consequence}");
        return (Severity::Failure, message);
    }
    if space.free_bytes < FULL_BYTES {
        return (Severity::Failure, format!("the disk is full: {free} free"));
    }
    if space.free_files == Some(0) {
        return (Severity::Failure, "no free inodes".to_owned());
    }
    if space.free_bytes < ALMOST_FULL_BYTES.max(reserve.bytes.saturating_mul(2)) {
        return (Severity::Warning, format!("only {free} free"));
    }
    match space.free_files {
        Some(files) if files < ALMOST_FULL_FILES => {
            (Severity::Warning, format!("only {files} free inodes"))
        }
        _ => (Severity::Ok, format!("{free} free")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_a_read_only_device_from_a_read_only_mount() {
        let line = "36 35 98:0 /mnt1 /mnt2 ro,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert!(!is_read_only_device(line, "98:0"));
        let read_only = line.replace(" rw,errors", " ro,errors");
        assert!(is_read_only_device(&read_only, "98:0"));
        assert!(!is_read_only_device(&read_only, "98:1"));
        assert!(!is_read_only_device("", "98:0"));
    }

    #[test]
    fn warns_before_the_disk_is_full() {
        let space = |free_bytes, free_files| DiskSpace {
            free_bytes,
            free_files: Some(free_files),
            is_read_only: false,
        };
        let reserve = |bytes| Reserve {
            bytes,
            setting: "log_min_free_bytes",
            consequence: "logs cannot grow",
        };
        let severity = |space, bytes| judge(space, reserve(bytes)).0;
        let message = |space, bytes| judge(space, reserve(bytes)).1;
        assert_eq!(severity(space(100 * MIB, 5000), 0), Severity::Ok);
        let guarded = |min| severity(space(100 * MIB, 5000), min);
        assert_eq!(guarded(60 * MIB), Severity::Warning);
        assert_eq!(guarded(100 * MIB), Severity::Failure);
        assert_eq!(severity(space(10 * MIB, 5000), 0), Severity::Warning);
        assert_eq!(severity(space(0, 5000), 0), Severity::Failure);
        assert_eq!(severity(space(100 * MIB, 5), 0), Severity::Warning);
        assert_eq!(severity(space(100 * MIB, 0), 0), Severity::Failure);
        let uncounted = DiskSpace {
            free_files: None,
            ..space(100 * MIB, 0)
        };
        assert_eq!(severity(uncounted, 0), Severity::Ok);
        let read_only = DiskSpace {
            is_read_only: true,
            ..space(100 * MIB, 5000)
        };
        assert_eq!(severity(read_only, 0), Severity::Failure);
        for (space, reserved, expected) in [
            (read_only, 0, "the file system is read-only"),
            (
                space(MIB, 5000),
                2 * MIB,
                "1.0 MiB free, log_min_free_bytes is 2.0 MiB: logs cannot grow",
            ),
            (space(0, 5000), 0, "the disk is full: 0 bytes free"),
            (space(100 * MIB, 0), 0, "no free inodes"),
            (space(10 * MIB, 5000), 0, "only 10.0 MiB free"),
            (space(100 * MIB, 5), 0, "only 5 free inodes"),
            (space(100 * MIB, 5000), 0, "100.0 MiB free"),
        ] {
            assert_eq!(message(space, reserved), expected);
        }
    }
}
