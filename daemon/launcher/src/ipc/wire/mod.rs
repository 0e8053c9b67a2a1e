//! Messages between escherd, the launcher and the shims.
//!
//! Each is one packet of a `SOCK_SEQPACKET` socket, encoded by [`escher_protocol::codec`]. How a
//! command is run:
//!
//! 1. escherd asks the launcher for shims ([`LauncherRequest::Fork`]) before it needs them, and
//!    gets a socket to each ([`LauncherReply::Shim`]). The launcher takes no part in what follows.
//! 2. escherd sends a ready shim one message, [`ToShim::Assign`]; the shim answers with
//!    [`FromShim::Started`] once the program runs, and at the end with [`FromShim::Exited`].
//! 3. escherd records the exit report and sends [`ToShim::Recorded`]; the shim is ready for the
//!    next assignment. A shim that loses escherd carries on alone, and another escherd adopts it by
//!    the socket that it keeps in the runtime directory (see [`crate::ipc::shim_socket`]). If none
//!    has by the end, the shim writes an [exit record](crate::ipc::exit_record).
//!
//! [`Assignment`], [`ExitReport`] and [`LauncherHello`] grow by [parts](escher_protocol::parts): a
//! new field is a part, which a receiver that does not know it either skips or, where the tag says
//! that it must be understood, refuses ([`KNOWN_PARTS`]). Any other change is a new
//! [`WIRE_VERSION`].

mod assignment;
mod exit_report;
mod launcher;
mod shim;

pub use assignment::{
    Assignment, Identity, LaunchSpec, LogLimits, MAX_SUBMISSION_BACKUP_BYTES, WhenLogFull,
};
pub(crate) use exit_report::exceeds_limit;
pub use exit_report::{EndCause, ExitReport, MissingInterpreter};
pub use launcher::{
    Abilities, Directories, ExecutionFiles, LauncherHello, LauncherReply, LauncherRequest,
    LogDirAbilities, MAX_IDS_AT_ONCE, ProcessDefaults,
};
pub use shim::{
    FromShim, INPUT_WINDOW, InputState, MAX_INPUT_BYTES, MAX_SHIM_MESSAGE_BYTES, ShimPhase,
    ShimState, SignalOrder, ToShim,
};

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
