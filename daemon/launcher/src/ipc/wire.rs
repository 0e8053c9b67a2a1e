//! Messages between escherd, the launcher and the shims.
//!
//! Each is one packet of a `SOCK_SEQPACKET` socket, encoded by [`escher_protocol::codec`]. How a command
//! is run:
//!
//! 1. escherd asks the launcher for shims ([`LauncherRequest::Fork`]) before it needs them, and gets a
//!    socket to each ([`LauncherReply::Shim`]). The launcher takes no part in what follows.
//! 2. escherd sends a ready shim one message, [`ToShim::Assign`]; the shim answers with
//!    [`FromShim::Started`] once the program runs, and at the end with [`FromShim::Exited`].
//! 3. escherd stores the result and sends [`ToShim::Recorded`]; the shim is ready for the next
//!    assignment. A shim that loses escherd carries on alone, and another escherd adopts it by the socket
//!    that it keeps in the runtime directory (see [`crate::ipc::shim_socket`]). If none has by the end,
//!    the shim writes an [exit record](crate::ipc::exit_record).
//!
//! [`Assignment`], [`ExitReport`] and [`Hello`] grow by [parts](escher_protocol::parts): a new field is a
//! part, which a receiver that does not know it either skips or, where the tag says that it must be
//! understood, refuses ([`KNOWN_PARTS`]). Any other change is a new [`WIRE_VERSION`].

use escher_protocol::codec::{self, CodecError};
use escher_protocol::{
    Blob, Canceller, Controllers, ExecutionId, Exit, Leftovers, Measurements, OutputTotals, Parts,
    ResourceLimits, StartStage, Text, Timestamp, UnsupportedPart, Usage,
};
use serde::{Deserialize, Serialize};

/// Version of these messages. escherd refuses a launcher that speaks another; shims speak the version of
/// their launcher.
pub const WIRE_VERSION: u16 = 10;

/// The tags of all parts that this version understands.
pub const KNOWN_PARTS: &[u32] = &[];

/// Number of the first attempt to run a command.
pub const FIRST_ATTEMPT: u32 = 1;

/// Longest packet in bytes: a piece of standard input of 64 KiB and its envelope fit. Small enough for
/// the kernel's default socket buffer (`net.core.wmem_default`, 208 KiB) to hold several.
pub const MAX_PACKET_BYTES: usize = 66 * 1024;

/// Longest [`FromShim`] in bytes, [`FromShim::Adoptable`] excepted. escherd has a buffer of this size for
/// each command.
pub const MAX_SHIM_MESSAGE_BYTES: usize = 4096;

/// Most bytes of standard input in one [`ToShim::Input`].
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// Most [`ToShim::Input`] messages that escherd sends ahead of [`FromShim::InputAccepted`]. What the
/// shim holds for a command that does not read is bounded by this times [`MAX_INPUT_BYTES`].
pub const INPUT_WINDOW: usize = 4;

/// escherd to launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherRequest {
    /// Fork shims and send a [`LauncherReply::Shim`] for each.
    Fork {
        /// How many.
        count: u32,
    },
    /// Delete files of these executions. Answered by one [`LauncherReply::Removed`].
    Remove {
        /// Which files.
        artifact: Artifact,
        /// Of which executions, at most [`MAX_REMOVED_AT_ONCE`].
        ids: Vec<ExecutionId>,
    },
    /// Use these directories from now on. The first request to a launcher that has no directories yet
    /// ([`Abilities::has_directories`]). Answered by [`LauncherReply::InUse`].
    Use(Directories),
    /// Kill the processes in the cgroup of an execution whose shim has died, and remove the cgroup. Answered by
    /// one [`LauncherReply::CgroupKilled`].
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

/// The launcher's first message. Its layout never changes, so that a launcher of any version can be named
/// where it is refused.
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

/// Most executions in one [`LauncherRequest::Remove`], so that it fits into a packet.
pub const MAX_REMOVED_AT_ONCE: usize = 1024;

/// Files that an execution leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Artifact {
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
        /// The shim's process id, for people.
        pid: u32,
    },
    /// A shim could not be forked; ask again later.
    ForkFailed {
        /// Why (errno(3)).
        errno: i32,
    },
    /// A shim was killed, or has failed. Sent once the processes that it left behind are gone, or have
    /// turned out to be unkillable.
    ShimDied {
        /// The process id of [`LauncherReply::Shim`].
        pid: u32,
        /// What became of the processes of its command.
        leftovers: Leftovers,
    },
    /// The answer to [`LauncherRequest::Remove`].
    Removed {
        /// As in the request.
        artifact: Artifact,
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
    /// As `Assign`, with the encoded [`Assignment`] in a sealed memfd (memfd_create(2)) that comes with
    /// the packet: for command lines that do not fit into [`MAX_PACKET_BYTES`].
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
    /// Send [`FromShim::LogGrew`] once, as soon as the log is longer than this. Several may be pending at a time.
    Watch {
        /// Bytes of the log that escherd knows of.
        seen: u64,
    },
    /// The report of [`FromShim::Exited`] is stored; the shim may forget it.
    Recorded,
    /// Freeze all processes of the command until [`ToShim::Resume`] or its end. Its timeout goes on.
    Pause,
    /// Let the command go on.
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
        /// When the process was made.
        at: Timestamp,
    },
    /// One [`ToShim::Input`] has gone into the pipe.
    InputAccepted,
    /// The command has closed its standard input; further input is thrown away.
    InputClosed,
    /// The log has grown: the answer to [`ToShim::Watch`].
    LogGrew {
        /// Bytes in the log.
        log_bytes: u64,
    },
    /// The execution is over.
    Exited(Box<ExitReport>),
    /// The first packet to an escherd that has connected to the shim's socket: everything that an escherd
    /// connected from the start would know by now. [`ToShim::Watch`]es of an earlier escherd are forgotten.
    Adoptable(Box<ShimState>),
    /// Whether all processes of the command are frozen, as the kernel reports it. Sent when that changes, and
    /// after `Adoptable` if they are. `false` without a change: the command cannot be paused.
    Paused(bool),
}

/// State of a shim and its execution, for an escherd that adopts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// [`WIRE_VERSION`] of the shim.
    pub version: u16,
    /// The shim's process id, for people.
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

/// How far a shim is with its execution.
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
    /// It is over; the report could not be written down. [`FromShim::Exited`] follows at once.
    Over,
}

/// What a shim knows of its command's standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputState {
    /// Bytes that have arrived at the shim, from the first on.
    pub received: u64,
    /// [`ToShim::Input`]s that have arrived and not been accepted; each will be, by an
    /// [`FromShim::InputAccepted`].
    pub unaccepted: u32,
    /// Whether the end of the input has arrived.
    pub ended: bool,
    /// Whether nobody reads the input any more, or nobody ever did.
    pub closed: bool,
}

/// A command for a shim, with everything that the shim needs to run it and to be adopted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// What to run.
    pub spec: LaunchSpec,
    /// Opaque to the shim and returned in [`ShimState`]: enough for escherd to recover the submission from,
    /// should its store be lost. At most [`MAX_SUBMISSION_BACKUP_BYTES`].
    pub submission_backup: Blob,
    /// Limits of the log.
    pub log_limits: LogLimits,
    /// Most bytes that the command may write to each of its streams; the kill ladder ends a command that
    /// writes more ([`EndCause::OversizedOutput`]). `None`: any number.
    pub output_limit: Option<u64>,
    /// Resources that the command may use. Where a limit cannot be enforced the command is not started.
    pub limits: ResourceLimits,
    /// What later versions add.
    pub parts: Parts,
}

/// Longest [`Assignment::submission_backup`] in bytes: with its envelope it fits into a packet.
pub const MAX_SUBMISSION_BACKUP_BYTES: usize = 48 * 1024;

/// What bounds one log. Bytes that it does not take are counted
/// ([`OutputTotals::dropped_bytes`](escher_protocol::OutputTotals)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Longest log in bytes; 0: any length.
    pub max_bytes: u64,
    /// Bytes that must stay free (for the unprivileged, statvfs(3)) on the file system of the logs;
    /// 0: none.
    pub min_free_bytes: u64,
    /// What becomes of the command when its log takes no more, for these limits or because the disk is full.
    pub when_full: WhenLogFull,
}

/// What becomes of a command whose log takes no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenLogFull {
    /// It goes on, and what it writes is read and counted.
    #[default]
    Drain,
    /// It is ended by the kill ladder, with [`EndCause::LogFull`].
    Kill,
}

/// Everything a shim has to know to run a command. Made by escherd, which has resolved all names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Names the log, the claim and the exit record.
    pub id: ExecutionId,
    /// Which attempt to run the execution; part of the names of claim and exit record.
    pub attempt: u32,
    /// Arguments; the first is the program. Neither empty nor with a NUL inside.
    pub argv: Vec<Blob>,
    /// The whole environment, as `NAME=value`. Without a NUL inside.
    pub environment: Vec<Blob>,
    /// An absolute path.
    pub working_dir: Blob,
    /// Whether `/` does where `working_dir` cannot be entered.
    pub or_root: bool,
    /// As whom; `None`: as the launcher's own user.
    pub identity: Option<Identity>,
    /// Whether standard input is a pipe fed by [`ToShim::Input`]; else it is `/dev/null`.
    pub stdin: bool,
    /// Milliseconds until the kill ladder; `None`: never.
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

/// What became of a command, as its shim saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Which execution.
    pub id: ExecutionId,
    /// Which attempt to run it.
    pub attempt: u32,
    /// What became of its main process.
    pub exit: Exit,
    /// Why it ended.
    pub cause: EndCause,
    /// The last signal of the kill ladder that was sent while the main process lived.
    pub ended_by_signal: Option<i32>,
    /// When the process was made; `None` if it never was.
    pub started_at: Option<Timestamp>,
    /// When all was over.
    pub ended_at: Timestamp,
    /// From start to the end of the main process, in microseconds of the monotonic clock.
    pub duration_us: u64,
    /// What the whole tree used, as far as it was waited for.
    pub usage: Usage,
    /// What was written.
    pub output: OutputTotals,
    /// Whether processes were left over.
    pub leftovers: Leftovers,
    /// What the command's cgroup has counted, if it had one.
    pub measured: Option<Measurements>,
    /// What later versions add.
    pub parts: Parts,
}

/// Why a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndCause {
    /// By itself, or by a signal that was not the shim's ladder.
    Itself,
    /// Its time was over.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled(Canceller),
    /// Its log took no more, under [`WhenLogFull::Kill`].
    LogFull,
    /// It wrote more than [`Assignment::output_limit`] allows.
    OversizedOutput,
    /// It was never started, nor claimed: its assignment has a part that must be understood and that the shim
    /// does not know.
    UnsupportedPart {
        /// Tag of the part.
        tag: u32,
    },
}

impl ExitReport {
    /// Returns the report of a command that left nothing to measure: it ended by itself, wrote nothing and
    /// used nothing.
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

    /// Returns the report of a command whose assignment has a part that the shim does not know and must.
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

    /// Checks the output of a command that has ended by itself against the limit of each of its streams: having
    /// written more is then the cause of its end, whatever its exit was.
    pub fn enforce_output_limit(&mut self, output_limit: u64) {
        let was_started = !matches!(self.exit, Exit::NotStarted { .. });
        if self.cause == EndCause::Itself && was_started && exceeds(&self.output, output_limit) {
            self.cause = EndCause::OversizedOutput;
        }
    }
}

/// Whether one of the streams has more than `limit` bytes.
#[must_use]
pub fn exceeds(output: &OutputTotals, limit: u64) -> bool {
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
