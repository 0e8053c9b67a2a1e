//! Maps executions and failures to exit statuses.

use escher_client::protocol::{Exit, Outcome, StartStage};
use escher_client::{Error, ErrorCode, ExecutionRecord, Status};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::failure::Failure;

/// The command exceeded its timeout.
const TIMED_OUT: u8 = 124;
/// escherctl or escherd failed, not the command.
const ESCHER_FAILED: u8 = 125;
/// Output of the command is missing from what `run` has shown, whatever the command did.
pub(crate) const INCOMPLETE_OUTPUT: u8 = ESCHER_FAILED;
/// The command could not be started.
const NOT_STARTED: u8 = 126;
/// The program was not found.
const PROGRAM_NOT_FOUND: u8 = 127;
/// escherd refused the request, or a check failed.
pub(crate) const REFUSED: u8 = 1;
const USAGE_ERROR: u8 = 2;

/// What the exit status of a verb stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitMapping {
    /// The end of the command; escher's own failures have statuses of their own.
    Command,
    /// The success of the verb itself.
    Verb,
}

impl ExitMapping {
    /// Returns the mapping of the verb with this name.
    pub(crate) fn for_verb(name: &str) -> Self {
        match name {
            "run" | "attach" | "wait" => ExitMapping::Command,
            _ => ExitMapping::Verb,
        }
    }
}

/// How escherctl ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    Status(u8),
    /// It dies of this signal, which its parent is to see: a shell ends its loop only then.
    Signal(Signal),
}

impl From<u8> for ProcessEnd {
    fn from(status: u8) -> Self {
        ProcessEnd::Status(status)
    }
}

/// Returns the end of `run` whose command has finished: by the signal of which the command died, if
/// `run` has received that, too. `cancelled_for`: the signal instead of which the command was cancelled,
/// because no program could get it.
pub(crate) fn end_of_run(
    record: &ExecutionRecord,
    cancelled_for: Option<Signal>,
    has_received: impl Fn(i32) -> bool,
) -> ProcessEnd {
    let status = for_record(record);
    let is_cancelled = record.status == Status::Cancelled;
    if let Some(signal) = cancelled_for.filter(|_| is_cancelled) {
        return ProcessEnd::Signal(signal);
    }
    let exit = record.outcome.as_ref().map(|outcome| outcome.exit);
    if let Some(Exit::Signal { signal, .. }) = exit
        && status == for_signal(signal)
        && has_received(signal)
        && let Ok(signal) = Signal::try_from(signal)
    {
        return ProcessEnd::Signal(signal);
    }
    ProcessEnd::Status(status)
}

/// The status of a command that died of `signal`, and of escherctl when `signal` ended it.
pub(crate) fn for_signal(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

pub(crate) fn for_usage_error(mapping: ExitMapping) -> u8 {
    match mapping {
        ExitMapping::Command => ESCHER_FAILED,
        ExitMapping::Verb => USAGE_ERROR,
    }
}

pub(crate) fn for_failure(failure: &Failure, mapping: ExitMapping) -> u8 {
    match (failure, mapping) {
        (Failure::Usage { .. }, mapping) => for_usage_error(mapping),
        (Failure::ClosedPipe, _) => for_signal(Signal::SIGPIPE as i32),
        (Failure::TerminalGone, _) => for_signal(Signal::SIGHUP as i32),
        (Failure::WorkingDirectory { .. }, ExitMapping::Command) => NOT_STARTED,
        (
            Failure::Request {
                error: Error::Api(error),
                ..
            },
            ExitMapping::Command,
        ) if error.code == ErrorCode::ARGUMENTS_TOO_LONG => NOT_STARTED,
        (_, ExitMapping::Command) => ESCHER_FAILED,
        (_, ExitMapping::Verb) => REFUSED,
    }
}

/// The status for a finished execution.
pub(crate) fn for_record(record: &ExecutionRecord) -> u8 {
    match (record.status, &record.outcome) {
        (Status::Completed, _) => 0,
        (Status::Timeout, _) => TIMED_OUT,
        (Status::Cancelled, outcome) => for_signal(cancelling_signal(outcome.as_ref())),
        (Status::Failed, Some(outcome)) => for_failed(outcome),
        (Status::Failed | Status::Lost | Status::Pending | Status::Running, _) => ESCHER_FAILED,
    }
}

fn cancelling_signal(outcome: Option<&Outcome>) -> i32 {
    let exit_signal = |outcome: &Outcome| match outcome.exit {
        Exit::Signal { signal, .. } => Some(signal),
        _ => None,
    };
    outcome
        .and_then(|outcome| outcome.ended_by_signal.or(exit_signal(outcome)))
        .unwrap_or(Signal::SIGTERM as i32)
}

fn for_failed(outcome: &Outcome) -> u8 {
    let code = outcome.error.as_ref().map(|error| error.code);
    if matches!(
        code,
        Some(ErrorCode::OVERSIZED_OUTPUT | ErrorCode::LOG_FULL)
    ) {
        return ESCHER_FAILED;
    }
    match outcome.exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Exit::Signal { signal, .. } => for_signal(signal),
        Exit::NotStarted { stage, errno } => match code {
            Some(ErrorCode::PROGRAM_NOT_FOUND) => PROGRAM_NOT_FOUND,
            None if stage == StartStage::Exec && errno == Errno::ENOENT as i32 => PROGRAM_NOT_FOUND,
            _ => NOT_STARTED,
        },
        Exit::Withdrawn | Exit::Unknown => ESCHER_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::ApiError;
    use escher_tests::samples;

    #[test]
    fn a_command_that_is_refused_for_its_length_could_not_be_started() {
        let refused = |code| {
            let error = Error::Api(ApiError::new(code, "no"));
            let failure = Failure::Request { error, hint: None };
            for_failure(&failure, ExitMapping::Command)
        };
        assert_eq!(refused(ErrorCode::ARGUMENTS_TOO_LONG), 126);
        assert_eq!(refused(ErrorCode::INVALID_REQUEST), 125);
    }

    #[test]
    fn maps_every_outcome() {
        use ErrorCode as Code;
        use Status::{Cancelled, Completed, Failed, Lost, Timeout};
        let exited = Exit::Code;
        let signal = |signal| Exit::Signal {
            signal,
            core_dumped: false,
        };
        let not_started = |stage, errno| Exit::NotStarted { stage, errno };
        let (enoent, e2big) = (Errno::ENOENT as i32, Errno::E2BIG as i32);
        let not_found = not_started(StartStage::Exec, enoent);
        let no_directory = not_started(StartStage::WorkingDirectory, enoent);
        let too_long = not_started(StartStage::Exec, e2big);
        let (term, kill) = (Some(15), Some(9));
        let table = [
            (Completed, exited(0), None, None, 0),
            (Failed, exited(7), Some(Code::EXIT_STATUS), None, 7),
            (Failed, exited(127), Some(Code::EXIT_STATUS), None, 127),
            (Failed, signal(9), Some(Code::SIGNALLED), None, 137),
            (Failed, signal(64), Some(Code::SIGNALLED), None, 192),
            (Timeout, signal(15), Some(Code::TIMED_OUT), term, 124),
            (Timeout, signal(9), Some(Code::TIMED_OUT), kill, 124),
            (Timeout, exited(0), Some(Code::TIMED_OUT), term, 124),
            (Cancelled, signal(15), Some(Code::CANCELLED), term, 143),
            (Cancelled, signal(9), Some(Code::CANCELLED), kill, 137),
            (Cancelled, exited(3), Some(Code::CANCELLED), term, 143),
            (Cancelled, signal(2), Some(Code::CANCELLED), None, 130),
            (Cancelled, Exit::Withdrawn, Some(Code::CANCELLED), None, 143),
            (Failed, exited(0), Some(Code::OVERSIZED_OUTPUT), None, 125),
            (Failed, signal(15), Some(Code::OVERSIZED_OUTPUT), term, 125),
            (Failed, signal(15), Some(Code::LOG_FULL), term, 125),
            (Failed, signal(9), Some(Code::OOM_KILLED), None, 137),
            (Lost, Exit::Unknown, Some(Code::LOST), None, 125),
            (Failed, not_found, Some(Code::PROGRAM_NOT_FOUND), None, 127),
            (Failed, not_found, None, None, 127),
            (Failed, no_directory, Some(Code::START_FAILED), None, 126),
            (Failed, too_long, Some(Code::START_FAILED), None, 126),
        ];
        for (status, exit, code, ended_by_signal, expected) in table {
            let error = code.map(|code| ApiError::new(code, "reason"));
            let record = samples::finished_execution(status, exit, error, ended_by_signal);
            assert_eq!(for_record(&record), expected, "{status} {exit:?} {code:?}");
        }
        assert_eq!(for_record(&samples::running_execution()), 125);
    }

    #[test]
    fn run_dies_of_the_signal_of_which_its_command_died_if_it_got_it_too() {
        let signal = |signal: Signal| Exit::Signal {
            signal: signal as i32,
            core_dumped: false,
        };
        let (int, term) = (Signal::SIGINT, Signal::SIGTERM);
        let (dead, status) = (ProcessEnd::Signal, ProcessEnd::Status);
        for (state, exit, received, cancelled_for, expected) in [
            (Status::Failed, signal(int), &[int][..], None, dead(int)),
            (Status::Failed, signal(int), &[], None, status(130)),
            (Status::Failed, signal(int), &[term], None, status(130)),
            (Status::Failed, Exit::Code(7), &[int], None, status(7)),
            (Status::Completed, Exit::Code(0), &[int], None, status(0)),
            (Status::Cancelled, signal(term), &[term], None, dead(term)),
            (Status::Cancelled, signal(term), &[int], None, status(143)),
            (Status::Cancelled, Exit::Code(7), &[term], None, status(143)),
            (Status::Timeout, signal(term), &[term], None, status(124)),
            (
                Status::Cancelled,
                Exit::Withdrawn,
                &[int],
                Some(int),
                dead(int),
            ),
            (
                Status::Cancelled,
                signal(term),
                &[int],
                Some(int),
                dead(int),
            ),
            (
                Status::Completed,
                Exit::Code(0),
                &[int],
                Some(int),
                status(0),
            ),
        ] {
            let by_signal = (state == Status::Cancelled).then_some(term as i32);
            let record = samples::finished_execution(state, exit, None, by_signal);
            let has_received = |number| received.iter().any(|signal| *signal as i32 == number);
            let end = end_of_run(&record, cancelled_for, has_received);
            assert_eq!(end, expected, "{state} {exit:?} {received:?}");
        }
    }

    #[test]
    fn failures_of_run_differ_from_those_of_its_command() {
        let usage = Failure::usage("unknown option", None);
        let status = |failure, verb| for_failure(failure, ExitMapping::for_verb(verb));
        assert_eq!(status(&usage, "run"), 125);
        assert_eq!(status(&usage, "submit"), 2);
        assert_eq!(status(&Failure::ClosedPipe, "ps"), 141);
        assert_eq!(status(&Failure::TerminalGone, "run"), 129);
    }
}
