//! The program that keeper, launcher and shims run, and the processes that are shims.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, geteuid};

use crate::os::process_name;
use crate::sys::process::open_pidfd;

/// The file of this program, which an upgrade replaces.
pub(super) struct Program {
    path: PathBuf,
}

impl Program {
    /// Finds the file from which this process was executed, or by which it was replaced since.
    ///
    /// # Errors
    /// Those of readlink(2).
    pub(super) fn current() -> io::Result<Self> {
        let path = without_deleted_mark(&std::env::current_exe()?);
        Ok(Program { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes the suffix that proc_pid_exe(5) has when the file was replaced.
fn without_deleted_mark(program: &Path) -> PathBuf {
    let program = program.as_os_str().as_bytes();
    let path = program.strip_suffix(b" (deleted)").unwrap_or(program);
    PathBuf::from(OsStr::from_bytes(path))
}

/// Whether a process is a launcher or a shim: it has their name, and the keeper's own user. A
/// process of a command can give itself the name, but not root's user id.
pub(super) fn is_launcher_or_shim(pid: Pid) -> bool {
    process_name::of(pid).is_some() && has_effective_uid(pid, geteuid().as_raw())
}

/// Whether `pid` has this effective user id. The owner of its directory in /proc does not tell:
/// that is root for every process that is not dumpable. Its status does (proc_pid_status(5)): real,
/// effective, saved and file system uid.
fn has_effective_uid(pid: Pid, uid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut uids = uids.unwrap_or_default().split_ascii_whitespace();
    uids.nth(1).and_then(|effective| effective.parse().ok()) == Some(uid)
}

/// A process with a pidfd, which refers to no other process even after its end.
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

impl Process {
    /// Opens a process; `None` when it has ended.
    pub(super) fn open(pid: Pid) -> Option<Self> {
        let pidfd = open_pidfd(pid).ok()?;
        Some(Process { pid, pidfd })
    }
}
