//! Messages between escherd, the launcher and the shims.
//!
//! Each is one packet of a `SOCK_SEQPACKET` socket, encoded by [`escher_protocol::codec`]. How a
//! command is run:
//!
//! 1. escherd asks the launcher for shims ([`LauncherRequest::Fork`]) before it needs them, and
//!    gets a socket to each ([`LauncherReply::Shim`]). The launcher takes no part in what follows.
//! 2. escherd sends a ready shim one message, [`ToShim::Assign`]; the shim answers with
//!    [`FromShim::Started`] once the program runs, and at the end with [`FromShim::Exited`].
//! 3. escherd stores the result and sends [`ToShim::Recorded`]; the shim is ready for the next
//!    assignment. A shim that loses escherd carries on alone, and another escherd adopts it by the
//!    socket that it keeps in the runtime directory (see [`crate::ipc::shim_socket`]). If none has
//!    by the end, the shim writes an [exit record](crate::ipc::exit_record).
//!
//! [`Assignment`], [`ExitReport`] and [`Hello`] grow by [parts](escher_protocol::parts): a new
//! field is a part, which a receiver that does not know it either skips or, where the tag says that
//! it must be understood, refuses ([`KNOWN_PARTS`]). Any other change is a new [`WIRE_VERSION`].

use escher_protocol::codec::{self, CodecError};
use escher_protocol::{
    Blob, Canceller, Controllers, ExecutionId, Exit, Leftovers, Measurements, OutputTotals, Parts,
    ResourceLimits, StartStage, Text, Timestamp, UnsupportedPart, Usage,
};
use serde::{Deserialize, Serialize};

/// Version of these messages. escherd refuses a launcher that speaks another; shims speak the
/// version of their launcher.
pub const WIRE_VERSION: u16 = 10;

/// The tags of all parts that this version understands.
pub const KNOWN_PARTS: &[u32] = &[];

/// Number of the first attempt to run a command.
pub const FIRST_ATTEMPT: u32 = 1;

/// Longest packet in bytes: a piece of standard input of 64 KiB and its envelope fit. Small enough
/// for the kernel's default socket buffer (`net.core.wmem_default`, 208 KiB) to hold several.
pub const MAX_PACKET_BYTES: usize = 66 * 1024;

/// Longest [`FromShim`] in bytes, [`FromShim::Adoptable`] excepted. escherd has a buffer of this
/// size for each command.
pub const MAX_SHIM_MESSAGE_BYTES: usize = 4096;

/// Most bytes of standard input in one [`ToShim::Input`].
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// Most [`ToShim::Input`] messages that escherd sends ahead of [`FromShim::InputAccepted`]. What
/// the shim holds for a command that does not read is bounded by this times [`MAX_INPUT_BYTES`].
pub const INPUT_WINDOW: usize = 4;

/// escherd to launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherRequest {
    /// Fork shims and send a [`LauncherReply::Shim`] for each.
    Fork {
        /// How many.
        count: u32,
    },
    /// Delete files of executions. Answered by one [`LauncherReply::FilesDeleted`].
    DeleteFiles {
        /// Which files.
        files: ExecutionFiles,
        /// Of which executions, at most [`MAX_DELETED_AT_ONCE`].
        ids: Vec<ExecutionId>,
    },
    /// Use these directories from now on. The first request to a launcher that has no directories
    /// yet ([`Abilities::has_directories`]). Answered by [`LauncherReply::InUse`].
    Use(Directories),
    /// Kill all processes in the cgroup of an execution whose shim has died, and remove the cgroup.
    /// Answered by one [`LauncherReply::CgroupKilled`].
    KillCgroup {
        /// Which execution.
        id: ExecutionId,
    },
}

/// The directories of a launcher and its shims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Directory of the logs.
    pub log_dir: Blob,
    /// Parent of the directory of the exit records.
    pub state_dir: Blob,
    /// Parent of the directory of the shims' sockets.
    pub runtime_dir: Blob,
}

/// The launcher's first message. Its layout never changes, so that a launcher of any version can be
/// named where it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`WIRE_VERSION`] of the launcher and its shims.
    pub version: u16,
    /// The launcher's process id.
    pub pid: u32,
    /// The launcher's user: 0 can start commands as anybody, another only as itself.
    pub uid: u32,
    /// What the launcher can do.
    pub abilities: Abilities,
    /// What later versions add.
    pub parts: Parts,
}

/// What a launcher can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Release of the launcher's program.
    pub program: Text,
    /// Whether the launcher has directories already, as one that escherd has started.
    pub has_directories: bool,
    /// Which resources the launcher can limit and measure; `None`: commands have no cgroups.
    pub cgroups: Option<Controllers>,
}

/// Most executions in one [`LauncherRequest::DeleteFiles`], so that it fits into a packet.
pub const MAX_DELETED_AT_ONCE: usize = 1024;

/// Files that an execution leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExecutionFiles {
    /// The log and its index.
    Log,
    /// The exit record of an attempt.
    ExitRecord {
        /// Which attempt.
        attempt: u32,
    },
    /// The socket of a shim that was killed while it had this attempt.
    Claim {
        /// Which attempt.
        attempt: u32,
    },
}

/// Launcher to escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherReply {
    /// The first message.
    Hello(Hello),
    /// A shim is ready. Its socket comes with the packet (`SCM_RIGHTS`).
    Shim {
        /// The shim's process id; [`LauncherReply::ShimDied`] names the shim by it.
        pid: u32,
    },
    /// A shim could not be forked; ask again later.
    ForkFailed {
        /// Why (errno(3)).
        errno: i32,
    },
    /// A shim was killed, or has failed. Sent once the processes that it left behind are gone, or
    /// have turned out to be unkillable.
    ShimDied {
        /// The process id of [`LauncherReply::Shim`].
        pid: u32,
        /// What became of the processes of its command.
        leftovers: Leftovers,
    },
    /// The answer to [`LauncherRequest::DeleteFiles`].
    FilesDeleted {
        /// As in the request.
        files: ExecutionFiles,
        /// The executions of the request that have no such file any more.
        ids: Vec<ExecutionId>,
    },
    /// The answer to [`LauncherRequest::Use`].
    InUse {
        /// Why they cannot be used; `None` if they are.
        error: Option<Text>,
    },
    /// The answer to [`LauncherRequest::KillCgroup`].
    CgroupKilled {
        /// As in the request.
        id: ExecutionId,
        /// What became of the processes.
        leftovers: Leftovers,
    },
}

/// escherd to shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToShim {
    /// Run this command.
    Assign(Box<Assignment>),
    /// As `Assign`, with the encoded [`Assignment`] in a sealed memfd (memfd_create(2)) that comes
    /// with the packet: for command lines that do not fit into [`MAX_PACKET_BYTES`].
    AssignFromMemory,
    /// Bytes for the command's standard input.
    Input {
        /// The bytes, at most [`MAX_INPUT_BYTES`].
        data: Blob,
        /// Whether the input ends after them.
        end: bool,
    },
    /// End the command by the kill ladder.
    Cancel {
        /// For whom; comes back in [`ExitReport::cause`].
        by: Canceller,
        /// SIGKILL at once.
        kill: bool,
    },
    /// Send a signal to the main process.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Send [`FromShim::LogGrew`] once, as soon as the log is longer than this. Several may be
    /// pending at a time.
    Watch {
        /// Bytes of the log that escherd knows of.
        known_bytes: u64,
    },
    /// The report of [`FromShim::Exited`] is stored; the shim may discard it.
    Recorded,
    /// Freeze all processes of the command until [`ToShim::Resume`] or its end. Its timeout keeps
    /// running.
    Pause,
    /// Thaw the command.
    Resume,
}

impl ToShim {
    /// Encodes the message `Assign(assignment)` without a copy of the assignment.
    ///
    /// # Errors
    /// As [`codec::encode`].
    pub fn encode_assign(assignment: &Assignment) -> Result<Vec<u8>, CodecError> {
        #[derive(Serialize)]
        enum Borrowed<'a> {
            Assign(&'a Assignment),
        }
        codec::encode(&Borrowed::Assign(assignment))
    }
}

/// Shim to escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromShim {
    /// The program runs: its execve(2) succeeded.
    Started {
        /// Its process id.
        pid: u32,
        /// When the process was created.
        at: Timestamp,
    },
    /// One [`ToShim::Input`] has been written to the pipe.
    InputAccepted,
    /// The command has closed its standard input; further input is discarded.
    InputClosed,
    /// The log has grown: the answer to [`ToShim::Watch`].
    LogGrew {
        /// Bytes in the log.
        log_bytes: u64,
    },
    /// The execution is over.
    Exited(Box<ExitReport>),
    /// The first packet to an escherd that has connected to the shim's socket: everything that an
    /// escherd connected from the start would know by now. [`ToShim::Watch`]es of an earlier
    /// escherd are dropped.
    Adoptable(Box<ShimState>),
    /// Whether all processes of the command are frozen, as the kernel reports it. Sent when that
    /// changes, and after `Adoptable` if they are. `false` without a change: the command cannot be
    /// paused.
    Paused(bool),
}

/// State of a shim and its execution, for an escherd that adopts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// [`WIRE_VERSION`] of the shim.
    pub version: u16,
    /// The shim's process id; [`LauncherReply::ShimDied`] names the shim by it.
    pub pid: u32,
    /// Its execution.
    pub id: ExecutionId,
    /// Which attempt to run it.
    pub attempt: u32,
    /// As in [`Assignment`].
    pub submission_backup: Blob,
    /// How far the execution is.
    pub phase: ShimPhase,
    /// Why the command is being ended, if it is.
    pub ending: Option<EndCause>,
    /// Bytes in the log.
    pub log_bytes: u64,
    /// State of the command's standard input.
    pub input: InputState,
}

/// Phase of an execution in its shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShimPhase {
    /// The program does not run yet. [`FromShim::Started`] or `Exited` follows.
    Starting,
    /// The program runs.
    Running {
        /// As in [`FromShim::Started`].
        pid: u32,
        /// As there.
        at: Timestamp,
    },
    /// The command has ended, and its exit record could not be written. [`FromShim::Exited`]
    /// follows at once.
    Over,
}

/// State of a command's standard input in its shim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputState {
    /// Bytes that the shim has received since the start.
    pub received_bytes: u64,
    /// [`ToShim::Input`]s that the shim has received and not answered; a
    /// [`FromShim::InputAccepted`] follows for each.
    pub unaccepted: u32,
    /// Whether the shim has received the end of the input.
    pub has_ended: bool,
    /// Whether the command does not read its input any more, or has none.
    pub is_closed: bool,
}

/// A command for a shim, with everything that the shim needs to run it and to be adopted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// What to run.
    pub spec: LaunchSpec,
    /// Opaque to the shim and returned in [`ShimState`]: enough for escherd to recover the
    /// submission from, should its store be lost. At most [`MAX_SUBMISSION_BACKUP_BYTES`].
    pub submission_backup: Blob,
    /// Limits of the log.
    pub log_limits: LogLimits,
    /// Most bytes that the command may write to each of its streams; the kill ladder ends a command
    /// that writes more ([`EndCause::OversizedOutput`]). `None`: any number.
    pub output_limit: Option<u64>,
    /// Resources that the command may use. Where a limit cannot be enforced the command is not
    /// started.
    pub limits: ResourceLimits,
    /// What later versions add.
    pub parts: Parts,
}

/// Longest [`Assignment::submission_backup`] in bytes: with its envelope it fits into a packet.
pub const MAX_SUBMISSION_BACKUP_BYTES: usize = 48 * 1024;

/// Limits of one log. Output beyond them is dropped and counted
/// ([`OutputTotals::dropped_bytes`](escher_protocol::OutputTotals)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Longest log in bytes; 0: any length.
    pub max_bytes: u64,
    /// Bytes that must stay free for unprivileged users (statvfs(3)) on the file system of the
    /// logs; 0: none.
    pub min_free_bytes: u64,
    /// What happens to the command when output is dropped, because of these limits or a full disk.
    pub when_full: WhenLogFull,
}

/// What happens to a command whose output is dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenLogFull {
    /// It runs on; the shim reads its output and counts it.
    #[default]
    Drain,
    /// The kill ladder ends it, with [`EndCause::LogFull`].
    Kill,
}

/// A command and how to run it. escherd has resolved all names in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Names the log, the claim and the exit record.
    pub id: ExecutionId,
    /// Which attempt to run the execution; part of the names of claim and exit record.
    pub attempt: u32,
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
    /// Whether standard input is a pipe fed by [`ToShim::Input`]; else it is `/dev/null`.
    pub stdin: bool,
    /// Milliseconds after which the kill ladder begins; `None`: never.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub kill_grace_ms: u64,
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

/// The result of a command, as its shim observed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Which execution.
    pub id: ExecutionId,
    /// Which attempt to run it.
    pub attempt: u32,
    /// How its main process ended.
    pub exit: Exit,
    /// Why the command ended.
    pub cause: EndCause,
    /// The last signal of the kill ladder that was sent while the main process lived.
    pub ended_by_signal: Option<i32>,
    /// When the main process was created; `None` if it never was.
    pub started_at: Option<Timestamp>,
    /// When the whole execution had ended.
    pub ended_at: Timestamp,
    /// From start to the end of the main process, in microseconds of the monotonic clock.
    pub duration_us: u64,
    /// Resources used by all processes that the shim has reaped.
    pub usage: Usage,
    /// Bytes written by the command.
    pub output: OutputTotals,
    /// Whether the main process left other processes behind.
    pub leftovers: Leftovers,
    /// Resources that the kernel has counted for the command's cgroup, if it had one.
    pub measured: Option<Measurements>,
    /// What later versions add.
    pub parts: Parts,
}

/// Why a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndCause {
    /// By itself, or by a signal that did not come from the kill ladder.
    Itself,
    /// Its timeout had passed.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled(Canceller),
    /// Output was dropped, under [`WhenLogFull::Kill`].
    LogFull,
    /// It wrote more than [`Assignment::output_limit`] allows.
    OversizedOutput,
    /// It was neither claimed nor started: its assignment has a part that must be understood and
    /// that the shim does not know.
    UnsupportedPart {
        /// Tag of the part.
        tag: u32,
    },
}

impl ExitReport {
    /// Returns the report of a command that ended by itself, wrote nothing and used no resources.
    #[must_use]
    pub fn new(id: ExecutionId, attempt: u32, exit: Exit, at: Timestamp) -> Self {
        ExitReport {
            id,
            attempt,
            exit,
            cause: EndCause::Itself,
            ended_by_signal: None,
            started_at: None,
            ended_at: at,
            duration_us: 0,
            usage: Usage::default(),
            output: OutputTotals::default(),
            leftovers: Leftovers::None,
            measured: None,
            parts: Parts::new(),
        }
    }

    /// Returns the report of a command that could not be started.
    #[must_use]
    pub fn not_started(
        id: ExecutionId,
        attempt: u32,
        stage: StartStage,
        errno: i32,
        at: Timestamp,
    ) -> Self {
        ExitReport::new(id, attempt, Exit::NotStarted { stage, errno }, at)
    }

    /// Returns the report of a command whose assignment has a part that the shim does not know and
    /// must.
    #[must_use]
    pub fn unsupported(
        id: ExecutionId,
        attempt: u32,
        part: UnsupportedPart,
        at: Timestamp,
    ) -> Self {
        let errno = libc::EOPNOTSUPP;
        ExitReport {
            cause: EndCause::UnsupportedPart { tag: part.tag },
            ..ExitReport::not_started(id, attempt, StartStage::Prepare, errno, at)
        }
    }

    /// Changes the cause of a command that has ended by itself, whatever its exit, to
    /// [`EndCause::OversizedOutput`] if one of its streams is longer than `output_limit`.
    pub fn enforce_output_limit(&mut self, output_limit: u64) {
        let was_started = !matches!(self.exit, Exit::NotStarted { .. });
        if self.cause == EndCause::Itself
            && was_started
            && exceeds_limit(&self.output, output_limit)
        {
            self.cause = EndCause::OversizedOutput;
        }
    }
}

/// Whether one of the streams is longer than `limit`.
pub(crate) fn exceeds_limit(output: &OutputTotals, limit: u64) -> bool {
    output.stdout_bytes.max(output.stderr_bytes) > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_limit_is_the_cause_only_where_a_command_ended_by_itself() {
        let failed = Exit::NotStarted {
            stage: StartStage::Exec,
            errno: 2,
        };
        let died = Exit::Signal {
            signal: 13,
            core_dumped: false,
        };
        let (itself, oversized) = (EndCause::Itself, EndCause::OversizedOutput);
        for (cause, exit, stdout_bytes, stderr_bytes, expected) in [
            (&itself, Exit::Code(0), 10, 10, &itself),
            (&itself, Exit::Code(0), 11, 0, &oversized),
            (&itself, Exit::Code(3), 0, 11, &oversized),
            (&itself, died, 11, 11, &oversized),
            (&itself, failed, 11, 11, &itself),
            (&EndCause::TimedOut, died, 11, 11, &EndCause::TimedOut),
            (&EndCause::LogFull, died, 11, 11, &EndCause::LogFull),
        ] {
            let id = ExecutionId::from_bytes([7; 16]);
            let mut report = ExitReport::new(id, 1, exit, Timestamp::from_micros(2));
            report.cause = cause.clone();
            report.output.stdout_bytes = stdout_bytes;
            report.output.stderr_bytes = stderr_bytes;
            report.enforce_output_limit(10);
            assert_eq!(report.cause, *expected, "{exit:?}");
        }
    }
}
