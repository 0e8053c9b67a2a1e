//! The program that keeper, launcher and shims run, and the processes that run it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, geteuid};

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

    /// Whether a process runs this program, in this or an earlier version, as the keeper's own
    /// user. Among the keeper's children and in its leaf, every such process other than the
    /// launcher is a shim.
    pub(super) fn is_run_by(&self, pid: Pid) -> bool {
        let is_program = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(program) => without_deleted_mark(&program) == self.path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            // Without CAP_SYS_PTRACE a shim's program cannot be read. It is better to spare a
            // process than to kill a shim.
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        };
        is_program && has_effective_uid(pid, geteuid().as_raw())
    }
}

/// Removes the suffix that proc_pid_exe(5) has when the file was replaced.
fn without_deleted_mark(program: &Path) -> PathBuf {
    let program = program.as_os_str().as_bytes();
    let path = program.strip_suffix(b" (deleted)").unwrap_or(program);
    PathBuf::from(OsStr::from_bytes(path))
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
