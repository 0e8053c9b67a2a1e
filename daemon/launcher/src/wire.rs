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
//!    A shim that loses escherd before that goes on alone and leaves an
//!    [exit record](crate::exit_record) instead.

use escher_protocol::{
    Blob, Canceller, ExecutionId, Exit, Leftovers, OutputTotals, Timestamp, Usage,
};
use serde::{Deserialize, Serialize};

/// Version of these messages. escherd refuses a launcher of another one.
///
/// - 1: the first.
pub const WIRE_VERSION: u16 = 1;

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
}
