//! Messages between escherd and a shim.

use escher_protocol::codec::{self, CodecError};
use escher_protocol::{
    Blob, CancelMode, Canceller, CurrentUsage, ExecutionId, SentSignals, SignalAnswer,
    SignalRecipients, SignalSerial, Timestamp, User,
};
use serde::{Deserialize, Serialize};

use super::assignment::Assignment;
use super::exit_report::ExitReport;

/// Longest [`FromShim`] in bytes, [`FromShim::Adoptable`] excepted. escherd has a buffer of this
/// size for each command.
pub const MAX_SHIM_MESSAGE_BYTES: usize = 4096;

/// Most bytes of standard input in one [`ToShim::Input`].
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// Most [`ToShim::Input`] messages that escherd sends ahead of [`FromShim::InputAccepted`]. What
/// the shim holds for a command that does not read is bounded by this times [`MAX_INPUT_BYTES`].
pub const INPUT_WINDOW: usize = 4;

/// A message from escherd to a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToShim {
    /// Run this command.
    Assign(Box<Assignment>),
    /// As `Assign`, with the encoded [`Assignment`] in a sealed memfd (memfd_create(2)) that comes
    /// with the packet: for command lines that do not fit into
    /// [`MAX_PACKET_BYTES`](super::MAX_PACKET_BYTES).
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
        /// By which signal.
        mode: CancelMode,
    },
    /// Send a signal, unless the shim has sent it before, and answer with [`FromShim::Signalled`].
    Signal(SignalOrder),
    /// Send [`FromShim::LogGrew`] once, as soon as the log is longer than this. Several may be
    /// pending at a time.
    Watch {
        /// Bytes of the log that escherd knows of.
        known_bytes: u64,
    },
    /// The exit report of [`FromShim::Exited`] is recorded; the shim may discard it.
    Recorded,
    /// Freeze all processes of the command until [`ToShim::Resume`] or its end. Its timeout keeps
    /// running.
    Pause,
    /// Thaw the command.
    Resume,
    /// The bytes that log and index may take from now on: the answer to
    /// [`FromShim::LogBudgetWanted`]. If they are fewer than wanted there are no more for now.
    LogBudget {
        /// Takes the place of [`Assignment::log_budget`].
        bytes: u64,
    },
    /// Measure what the command uses at the moment, and answer with [`FromShim::CurrentUsage`].
    MeasureUsage,
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

/// A signal to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalOrder {
    /// Its number.
    pub signal: i32,
    /// Which processes get it.
    pub recipients: SignalRecipients,
    /// For whom it is sent.
    pub by: User,
    /// Tells it from all others.
    pub serial: SignalSerial,
}

/// A message from a shim to escherd.
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
    /// The answer to [`ToShim::Signal`].
    Signalled {
        /// Which signal.
        serial: SignalSerial,
        /// What became of it.
        answer: SignalAnswer,
        /// Who has sent which signals so far.
        sent: SentSignals,
    },
    /// The log has grown: the answer to [`ToShim::Watch`].
    LogGrew {
        /// Bytes in the log.
        log_bytes: u64,
    },
    /// The command is over, and this is its exit report.
    Exited(Box<ExitReport>),
    /// The first packet to an escherd that has connected to the shim's socket: everything that an
    /// escherd connected from the start would know by now. [`ToShim::Watch`]es of an earlier
    /// escherd are dropped.
    Adoptable(Box<ShimState>),
    /// Whether all processes of the command are frozen, as the kernel reports it. Sent when that
    /// changes, and after `Adoptable` if they are. `false` without a change: the command cannot be
    /// paused.
    Paused(bool),
    /// The log needs a larger budget. escherd answers with [`ToShim::LogBudget`] at once.
    LogBudgetWanted {
        /// Bytes that log and index would take in all.
        bytes: u64,
    },
    /// The answer to [`ToShim::MeasureUsage`].
    CurrentUsage(CurrentUsage),
}

/// State of a shim and its execution, for an escherd that adopts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// [`WIRE_VERSION`](super::WIRE_VERSION) of the shim.
    pub version: u16,
    /// The shim's process id; [`LauncherReply::ShimDied`](super::LauncherReply::ShimDied) names the
    /// shim by it.
    pub pid: u32,
    /// Its execution.
    pub id: ExecutionId,
    /// Which attempt to run it.
    pub attempt: u32,
    /// As in [`Assignment`].
    pub submission_backup: Blob,
    /// How far the execution is.
    pub phase: ShimPhase,
    /// As in the last [`FromShim::Paused`].
    pub is_paused: bool,
    /// Bytes in the log.
    pub log_bytes: u64,
    /// Bytes that log and index may take, as in [`ToShim::LogBudget`].
    pub log_budget: u64,
    /// State of the command's standard input.
    pub input: InputState,
    /// Who has sent which signals.
    pub signals: SentSignals,
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
    /// The end is recorded, and the command has left processes, which can be ended
    /// ([`ToShim::Cancel`]) and signalled. Nothing is reported of them but their end, by that of the
    /// connection.
    Left,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::wire::{EndCause, MissingInterpreter};
    use escher_protocol::signal::MAX_SENT_SIGNALS;
    use escher_protocol::{Exit, Measurements};

    /// Longest login name in bytes (`LOGIN_NAME_MAX`).
    const MAX_LOGIN_NAME_BYTES: usize = 256;

    #[test]
    fn the_longest_messages_fit_into_the_buffer_of_escherd() {
        let at = Timestamp::from_micros(i64::MAX);
        let user = User {
            uid: u32::MAX,
            name: Some("x".repeat(MAX_LOGIN_NAME_BYTES).into()),
        };
        let mut sent = SentSignals::default();
        for (_, signal) in (0..MAX_SENT_SIGNALS).zip(1..) {
            sent.add(signal, user.clone(), at);
        }
        let most = Some(u64::MAX);
        let id = ExecutionId::from_bytes([7; 16]);
        let longest_path = "x".repeat(255).as_str().into();
        let report = ExitReport {
            missing_interpreter: Some(MissingInterpreter {
                interpreter: "x".repeat(253).as_str().into(),
                script: Some(longest_path),
            }),
            cause: EndCause::Cancelled(Canceller::User(user)),
            signals: sent.clone(),
            started_at: Some(at),
            duration_us: u64::MAX,
            measured: Some(Measurements {
                user_us: most,
                system_us: most,
                peak_memory_bytes: most,
                io_read_bytes: most,
                io_written_bytes: most,
                peak_tasks: most,
                oom_kills: most,
            }),
            ..ExitReport::new(id, 1, Exit::Code(7), at)
        };
        let signalled = FromShim::Signalled {
            serial: SignalSerial::unique(),
            answer: SignalAnswer::Sent,
            sent,
        };
        for message in [FromShim::Exited(Box::new(report)), signalled] {
            let length = codec::encode(&message).unwrap().len();
            // Some numbers of the report may be longer than here.
            assert!(length + 200 < MAX_SHIM_MESSAGE_BYTES, "{length}");
        }
    }
}
