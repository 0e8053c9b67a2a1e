//! Messages between escherd, the launcher and the shims.
//!
//! Each is one packet of a `SOCK_SEQPACKET` socket, encoded by [`escher_protocol::codec`]. The way of a
//! command:
//!
//! 1. escherd asks the launcher for shims ([`LauncherRequest::Fork`]) before it needs them, and gets a
//!    socket to each ([`LauncherReply::Shim`]). From then on the launcher is out of it.
//! 2. escherd sends a ready shim its [`ToShim::Launch`]; the shim answers with [`FromShim::Started`] once
//!    the program runs, and in the end with [`FromShim::Exited`].
//! 3. escherd writes the result down and says [`ToShim::Recorded`]; the shim is ready for the next launch.
//!    A shim that loses escherd goes on alone, and another escherd adopts it by the socket that it keeps
//!    in the runtime directory (see [`crate::ipc::shim_socket`]). If none has by the end, the shim leaves an
//!    [exit record](crate::ipc::exit_record).

use escher_protocol::{
    Blob, Canceller, Controllers, ExecutionId, Exit, Leftovers, Measurements, OutputTotals,
    ResourceLimits, Text, Timestamp, Usage,
};
use serde::{Deserialize, Serialize};

/// Version of these messages: what a launcher says it speaks. Its shims speak the same.
///
/// - 1: the first.
/// - 2: shims keep a socket by which another escherd adopts them ([`FromShim::Adoptable`]), and a launch
///   says what they keep for it ([`ToShim::Assign`]); the launcher deletes what executions have left
///   behind ([`LauncherRequest::Remove`]) and ends what a killed shim has left behind
///   ([`LauncherReply::ShimDied`]).
/// - 3: shims end a command that writes more than it may ([`ToShim::LimitOutput`],
///   [`EndCause::OversizedOutput`]).
/// - 4: a launcher says what it can do ([`LauncherReply::Abilities`]) and may be one that escherd has not started
///   and tells its directories ([`LauncherRequest::Use`]). Commands have cgroups, where there are any: limits
///   ([`ToShim::LimitResources`]), figures ([`FromShim::Measured`]), a pause ([`ToShim::Pause`]), and an end for
///   what a dead shim has left ([`LauncherRequest::Sweep`]).
pub const WIRE_VERSION: u16 = 4;

/// The oldest version that escherd still speaks. It sends a launcher, and its shims, only messages of the
/// version that they said.
pub const LOWEST_WIRE_VERSION: u16 = 1;

/// Longest packet in bytes: a piece of standard input of 64 KiB and its envelope fit. Small enough for
/// the kernel's default socket buffer (`net.core.wmem_default`, 208 KiB) to hold several.
pub const MAX_PACKET_BYTES: usize = 66 * 1024;

/// Most bytes of standard input in one [`ToShim::Input`].
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// Most [`ToShim::Input`] messages that escherd sends ahead of [`FromShim::InputAccepted`]. What the
/// shim holds for a command that does not read is bounded by this times [`MAX_INPUT_BYTES`].
pub const INPUT_WINDOW: usize = 4;

/// escherd to launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherRequest {
    /// Fork so many shims and send a [`LauncherReply::Shim`] for each.
    Fork {
        /// How many.
        count: u32,
    },
    /// Delete what these executions have left on disk. (Version 2.) Answered by one
    /// [`LauncherReply::Removed`].
    Remove {
        /// What of them.
        remains: Artifact,
        /// Which, at most [`MAX_REMOVED_AT_ONCE`].
        ids: Vec<ExecutionId>,
    },
    /// Use these directories from now on. (Version 4.) The first request to a launcher that has no directories
    /// yet ([`Abilities::has_directories`]). Answered by [`LauncherReply::InUse`].
    Use(Directories),
    /// End what is left in the cgroup of an execution whose shim has died. (Version 4.) Answered by one
    /// [`LauncherReply::Swept`].
    Sweep {
        /// Which execution.
        id: ExecutionId,
    },
}

/// Where a launcher and its shims find and leave things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Directory of the logs.
    pub log_dir: Blob,
    /// Directory in which the exit records have theirs.
    pub state_dir: Blob,
    /// Directory in which the sockets of the shims have theirs.
    pub runtime_dir: Blob,
}

/// What a launcher is and can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// The version of its program.
    pub program: Text,
    /// Whether it knows its directories. One that escherd has started does.
    pub has_directories: bool,
    /// Which resources it can limit and measure; `None`: commands have no cgroups.
    pub cgroups: Option<Controllers>,
}

/// Most executions in one [`LauncherRequest::Remove`], so that it fits into a packet.
pub const MAX_REMOVED_AT_ONCE: usize = 1024;

/// What an execution has left on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Artifact {
    /// Its log and the index beside it.
    Log,
    /// Its exit record.
    ExitRecord,
    /// The socket of a shim that was killed while it had the execution.
    Claim,
}

/// Launcher to escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherReply {
    /// The first packet.
    Hello {
        /// [`WIRE_VERSION`].
        version: u16,
        /// The launcher's process id.
        pid: u32,
        /// Its user: 0 can start commands as anybody, another only as itself.
        uid: u32,
    },
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
    /// A shim was killed, or has failed. (Version 2.) Sent once what it has left behind was ended, as far
    /// as that can be.
    ShimDied {
        /// The process id of [`LauncherReply::Shim`].
        pid: u32,
        /// What became of the processes of its command.
        leftovers: Leftovers,
    },
    /// The answer to [`LauncherRequest::Remove`]. (Version 2.)
    Removed {
        /// As in the request.
        remains: Artifact,
        /// Those of the request of which nothing of that kind is there any more.
        ids: Vec<ExecutionId>,
    },
    /// What it is and can do: the packet after `Hello`. (Version 4.)
    Abilities(Abilities),
    /// The answer to [`LauncherRequest::Use`]. (Version 4.)
    InUse {
        /// Why they cannot be used; `None` if they are.
        error: Option<Text>,
    },
    /// The answer to [`LauncherRequest::Sweep`]. (Version 4.)
    Swept {
        /// As in the request.
        id: ExecutionId,
        /// What became of the processes.
        leftovers: Leftovers,
    },
}

/// escherd to shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToShim {
    /// Start this command.
    Launch(Box<LaunchSpec>),
    /// As `Launch`, with the encoded [`LaunchSpec`] in a sealed memfd (memfd_create(2)) that comes with
    /// the packet: for command lines that do not fit into [`MAX_PACKET_BYTES`].
    LaunchFromMemory,
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
    /// Say [`FromShim::LogGrew`] once, as soon as the log is longer than this. Several stand side by side.
    Watch {
        /// Bytes of the log that escherd knows of.
        seen: u64,
    },
    /// The result of [`FromShim::Exited`] is safe; the shim may forget it.
    Recorded,
    /// As `Launch`, with what a shim of version 2 keeps beside it.
    Assign(Box<Assignment>),
    /// As `LaunchFromMemory`, with an encoded [`Assignment`].
    AssignFromMemory,
    /// The command of the next launch, and of that alone, is ended by the kill ladder once one of its streams
    /// has more than this. (Version 3.) It comes before the launch, so that no command runs without the limit
    /// that it was to have.
    LimitOutput {
        /// Most bytes of each stream.
        bytes: u64,
    },
    /// The command of the next launch, and that alone, may use no more than this. (Version 4.) It comes before the
    /// launch. Where a limit cannot be enforced the command is not started.
    LimitResources(ResourceLimits),
    /// Stop everything that the command runs, until [`ToShim::Resume`] or its end. (Version 4.) Its timeout goes
    /// on.
    Pause,
    /// Let it go on. (Version 4.)
    Resume,
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
    /// The first packet to an escherd that has connected to the shim's socket: what it would have heard by
    /// now had it been there from the start. (Version 2.) What comes next goes on from here;
    /// [`ToShim::Watch`]es of an earlier escherd are forgotten.
    Adoptable(Box<ShimState>),
    /// What the cgroup of the command has counted. (Version 4.) It comes right before `Exited`, if there is a
    /// cgroup.
    Measured(Box<Measurements>),
    /// Whether everything that the command runs is stopped, as the kernel says: when that changes, and after
    /// `Adoptable` if it is. Not so, where nothing has changed: it cannot be paused. (Version 4.)
    Paused(bool),
}

/// Where a shim stands with its execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// The version of these messages that the shim speaks.
    pub version: u16,
    /// The shim's process id, for people.
    pub pid: u32,
    /// Its execution.
    pub id: ExecutionId,
    /// As in [`Assignment`].
    pub memo: Blob,
    /// How far the execution is.
    pub phase: ShimPhase,
    /// Whether its end was asked for already, and why.
    pub ending: Option<EndCause>,
    /// Bytes in the log.
    pub log_bytes: u64,
    /// The account of the command's standard input.
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

/// A launch and what its shim is to keep with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// What to run.
    pub spec: LaunchSpec,
    /// Comes back in [`ShimState`]. escherd's business: enough to know the execution by, should
    /// everything else be lost. At most [`MAX_MEMO_BYTES`].
    pub memo: Blob,
    /// What bounds the log.
    pub log_limits: LogLimits,
}

/// Longest memo of an [`Assignment`], in bytes: with its envelope it fits into a packet.
pub const MAX_MEMO_BYTES: usize = 48 * 1024;

/// What bounds one log. Bytes that it does not take are counted
/// ([`OutputTotals::dropped_bytes`](escher_protocol::OutputTotals)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Longest log in bytes; 0: any length.
    pub max_bytes: u64,
    /// Bytes that must stay free (for the unprivileged, statvfs(3)) on the file system of the logs;
    /// 0: none.
    pub min_free_bytes: u64,
    /// What becomes of the command when its log takes no more, for these limits or for want of room.
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
    /// Names the log and the exit record.
    pub id: ExecutionId,
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
}

/// Why a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndCause {
    /// By itself, or by a signal that was not the shim's ladder.
    Itself,
    /// Its time was over.
    TimedOut,
    /// Somebody asked for it.
    Cancelled(Canceller),
    /// Its log took no more, under [`WhenLogFull::Kill`]. (Version 2.)
    LogFull,
    /// It wrote more than [`ToShim::LimitOutput`] allows. (Version 3.)
    OversizedOutput,
}

impl ExitReport {
    /// Holds a command that has ended by itself to a limit of so many bytes for each of its streams: having
    /// written more is then the cause of its end, whatever its exit was.
    pub fn hold_to(&mut self, output_limit: u64) {
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
    use escher_protocol::StartStage;

    #[test]
    fn a_command_that_has_ended_by_itself_is_held_to_its_limit_stream_by_stream() {
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
            let mut report = ExitReport {
                id: ExecutionId::from_bytes([7; 16]),
                exit,
                cause: cause.clone(),
                ended_by_signal: None,
                started_at: None,
                ended_at: Timestamp::from_micros(2),
                duration_us: 1,
                usage: Usage::default(),
                output: OutputTotals {
                    stdout_bytes,
                    stderr_bytes,
                    ..OutputTotals::default()
                },
                leftovers: Leftovers::None,
            };
            report.hold_to(10);
            assert_eq!(report.cause, *expected, "{exit:?}");
        }
    }
}
