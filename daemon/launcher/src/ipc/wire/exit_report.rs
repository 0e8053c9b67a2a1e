//! What a shim reports about the end of its command.

use escher_protocol::{
    Blob, Canceller, ExecutionId, Exit, Leftovers, Measurements, OutputTotals, Parts, SentSignals,
    StartStage, Timestamp, UnsupportedPart, Usage,
};
use serde::{Deserialize, Serialize};

/// The exit report of a command: its end, as its shim has observed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Which execution.
    pub id: ExecutionId,
    /// Which attempt to run it.
    pub attempt: u32,
    /// How its main process ended.
    pub exit: Exit,
    /// The interpreter that does not exist, if that is why the program could not be executed.
    pub missing_interpreter: Option<MissingInterpreter>,
    /// Why the command ended.
    pub cause: EndCause,
    /// The last signal of the kill ladder that was sent while the main process lived.
    pub ladder_signal: Option<i32>,
    /// Who sent which signals.
    pub signals: SentSignals,
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
    /// What became of the processes that the main process left behind.
    pub leftovers: Leftovers,
    /// Resources that the kernel has counted for the command's cgroup, if it had one.
    pub measured: Option<Measurements>,
    /// What later versions add.
    pub parts: Parts,
}

/// An interpreter that does not exist, as the child has read its path in the first line of a script
/// that its user may read. Any byte but blanks, NUL and the end of a line may be in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingInterpreter {
    /// The path that the script names, at most 253 bytes.
    pub interpreter: Blob,
    /// The path of the script, at most 255 bytes, if that is not the program of the request: the
    /// program was found in PATH, or its interpreter is a script as well.
    pub script: Option<Blob>,
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
    /// Output was dropped, under [`WhenLogFull::Kill`](super::WhenLogFull::Kill).
    LogFull,
    /// It wrote more than [`Assignment::output_limit`](super::Assignment::output_limit) allows.
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
            missing_interpreter: None,
            cause: EndCause::Itself,
            ladder_signal: None,
            signals: SentSignals::default(),
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
