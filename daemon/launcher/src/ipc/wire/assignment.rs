//! What a shim is to run, and under which limits.

use escher_protocol::{Blob, ExecutionId, Parts, ProcessLimits, ResourceLimits};
use serde::{Deserialize, Serialize};

/// A command for a shim, with everything that the shim needs to run it and to be adopted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// What to run.
    pub spec: LaunchSpec,
    /// Opaque to the shim and returned in [`ShimState`](super::ShimState): enough for escherd to
    /// recover the submission from, should its store be lost. At most
    /// [`MAX_SUBMISSION_BACKUP_BYTES`].
    pub submission_backup: Blob,
    /// Limits of the log.
    pub log_limits: LogLimits,
    /// Bytes that log and index may take of what the submitter's logs may take together. The shim asks
    /// for more when it needs more ([`FromShim::LogBudgetWanted`](super::FromShim::LogBudgetWanted)).
    pub log_budget: u64,
    /// Most bytes that the command may write to each of its streams; the kill ladder ends a command
    /// that writes more ([`EndCause::OversizedOutput`](super::EndCause::OversizedOutput)). `None`:
    /// any number.
    pub output_limit: Option<u64>,
    /// Resources that the command may use. Where a limit cannot be enforced the command is not
    /// started.
    pub limits: ResourceLimits,
    /// Resources that everything which the same user has submitted may use together. Where a limit
    /// cannot be enforced the command is not started.
    pub user_limits: ResourceLimits,
    /// What later versions add.
    pub parts: Parts,
}

/// Longest [`Assignment::submission_backup`] in bytes: with its envelope it fits into a packet.
pub const MAX_SUBMISSION_BACKUP_BYTES: usize = 48 * 1024;

/// Limits of one log. Output beyond them is dropped and counted
/// ([`OutputTotals::dropped_bytes`](escher_protocol::OutputTotals)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Most bytes of log and index together on disk; 0: any number.
    pub max_bytes: u64,
    /// Bytes that must stay free for unprivileged users (statvfs(3)) on the file system of the
    /// logs; 0: none.
    pub min_free_bytes: u64,
    /// What happens when the log is full, because of these limits, its budget
    /// ([`Assignment::log_budget`]) or a full disk.
    pub when_full: WhenLogFull,
}

/// What happens to a command whose log is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenLogFull {
    /// It runs on; the shim reads its output, drops it and counts it.
    #[default]
    Drain,
    /// The kill ladder ends it, with [`EndCause::LogFull`](super::EndCause::LogFull).
    Kill,
    /// It runs on. At [`LogLimits::max_bytes`], which must not be 0, or at the end of its budget the
    /// oldest output is deleted, an eighth of that at a time. Where the disk is full this is as
    /// [`WhenLogFull::Drain`].
    ForgetOldest,
}

/// A command and how to run it. escherd has resolved all names in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Names the log, the claim and the exit record.
    pub id: ExecutionId,
    /// Which attempt to run the execution; part of the names of claim and exit record.
    pub attempt: u32,
    /// The execution's number; with its id the name of its cgroup.
    pub number: u64,
    /// The user who has submitted it: its cgroup is in that of this user, to whom the kernel's audit
    /// log attributes what it does (proc_pid_loginuid(5)).
    pub submitter_uid: u32,
    /// Arguments; the first is the program. There is at least one, and none contains a NUL.
    pub argv: Vec<Blob>,
    /// The whole environment, as `NAME=value`. No entry contains a NUL.
    pub environment: Vec<Blob>,
    /// An absolute path.
    pub working_dir: Blob,
    /// Whether to run the command in `/` if `working_dir` cannot be entered.
    pub falls_back_to_root_dir: bool,
    /// User and groups; `None`: those of the launcher.
    pub identity: Option<Identity>,
    /// The umask of the command.
    pub umask: u32,
    /// Limits and priorities of its processes. The launcher's user must be allowed to set them.
    pub process: ProcessLimits,
    /// Whether standard error is the pipe of standard output.
    pub merges_output: bool,
    /// Whether standard input is a pipe fed by [`ToShim::Input`](super::ToShim::Input); else it is
    /// `/dev/null`.
    pub stdin: bool,
    /// Milliseconds after which the kill ladder begins; `None`: never.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub kill_grace_ms: u64,
    /// Milliseconds after the end of the main process in which the rest of its processes may end:
    /// SIGTERM follows after the first half of them, SIGKILL at their end.
    pub drain_ms: u64,
    /// Whether the rest of its processes may go on instead ([`Leftovers::Left`]): at most so many
    /// executions of the submitter may have left some, the others are drained. `None`: no process may.
    ///
    /// [`Leftovers::Left`]: escher_protocol::Leftovers::Left
    pub may_leave: Option<u32>,
}

/// The credentials of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id: real, effective and saved.
    pub uid: u32,
    /// Group id: real, effective and saved.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}
