//! The outcome of an execution: how its main process ended, and what the command took and left.

use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the main process ended.
    pub exit: Exit,
    /// Why the execution is not `completed`; `None` exactly if it is.
    pub error: Option<ApiError>,
    /// The last signal of the kill ladder, if it was used on the main process.
    pub ended_by_signal: Option<i32>,
    /// Time from start to end, in microseconds of the monotonic clock.
    pub duration_us: u64,
    /// Resources that the command used.
    pub usage: Usage,
    /// Bytes that the command wrote.
    pub output: OutputTotals,
    /// Whether processes outlived the main process, and what became of them.
    pub leftovers: Leftovers,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status, 0 to 255.
    Code(i32),
    /// It was killed by a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// It could not be started.
    NotStarted {
        /// The step that failed.
        stage: StartStage,
        /// The reason (errno(3)).
        errno: i32,
    },
    /// It was never launched: the execution was cancelled before, or given up.
    Withdrawn,
    /// Unknown: the shim was killed or the host went down.
    Unknown,
}

/// Resources that a command used: as counted by its cgroup, or without one, by the command and its
/// descendants that were waited for (wait4(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Most memory at once, in bytes; without a cgroup, the largest resident set of any one
    /// process. 0 if it was not measured: without a cgroup, that of a command which uses hardly
    /// more than its shim.
    pub peak_memory_bytes: u64,
}

/// Bytes that a command wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTotals {
    /// Bytes to standard output.
    pub stdout_bytes: u64,
    /// Bytes to standard error.
    pub stderr_bytes: u64,
    /// Length of the log: bytes of both that were written to it.
    pub log_bytes: u64,
    /// Bytes of both that are not in the log, because it could not be written or reached its limit.
    pub dropped_bytes: u64,
    /// Bytes at the beginning of the log that were deleted later, because it reached its limit.
    pub forgotten_bytes: u64,
    /// Bytes that the log and its index may still grow by, because processes were left
    /// ([`Leftovers::Left`]) that may write to it; else 0.
    pub reserved_bytes: u64,
}

/// Processes that outlived a main process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leftovers {
    /// There were none, or they ended by themselves.
    #[default]
    None,
    /// Some had to be ended, by SIGTERM or SIGKILL.
    Killed,
    /// SIGKILL was sent, but some did not end (uninterruptible sleep).
    Unkillable,
    /// Unknown: the shim was killed or the host went down.
    Unknown,
    /// Some were left running when the execution had finished, as [`KillMode::Process`](super::KillMode::Process) asks.
    Left,
}

impl Leftovers {
    /// Returns the name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Leftovers::None => "none",
            Leftovers::Killed => "killed",
            Leftovers::Unkillable => "unkillable",
            Leftovers::Unknown => "unknown",
            Leftovers::Left => "left",
        }
    }
}

/// A step in starting a program. The variants are in the order of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StartStage {
    /// Pipes, memory and the process itself (pipe(2), clone(2)).
    Prepare,
    /// A new session and process group (setsid(2)).
    Session,
    /// A new session keyring (keyctl(2)).
    Keyring,
    /// Descriptors 0, 1 and 2 and no others (dup3(2), close_range(2)).
    Descriptors,
    /// Priority, out-of-memory score, umask.
    Attributes,
    /// Resource limits (setrlimit(2)).
    Limits,
    /// Supplementary groups (setgroups(2)).
    Groups,
    /// Group ids (setresgid(2)).
    Gid,
    /// User ids (setresuid(2)).
    Uid,
    /// A check that user and groups are as requested.
    VerifyIdentity,
    /// The working directory (chdir(2)).
    WorkingDirectory,
    /// The signal mask (sigprocmask(2)).
    Signals,
    /// The program (execve(2)).
    Exec,
}

impl StartStage {
    /// Every stage with its name in errors and JSON.
    pub const TABLE: [(StartStage, &'static str); 13] = [
        (StartStage::Prepare, "prepare"),
        (StartStage::Session, "session"),
        (StartStage::Keyring, "keyring"),
        (StartStage::Descriptors, "descriptors"),
        (StartStage::Attributes, "attributes"),
        (StartStage::Limits, "limits"),
        (StartStage::Groups, "groups"),
        (StartStage::Gid, "gid"),
        (StartStage::Uid, "uid"),
        (StartStage::VerifyIdentity, "verify-identity"),
        (StartStage::WorkingDirectory, "working-directory"),
        (StartStage::Signals, "signals"),
        (StartStage::Exec, "exec"),
    ];

    /// Returns the stage's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("unknown", |row| row.1)
    }
}
