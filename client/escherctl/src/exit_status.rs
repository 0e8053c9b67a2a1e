//! How executions and failures become exit statuses.

use escher_client::protocol::{Exit, Outcome, StartStage};
use escher_client::{ErrorCode, ExecutionRecord, Status};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::failure::Failure;

/// Its time was over.
const TIMED_OUT: u8 = 124;
/// escher failed, not the command.
const ESCHER_FAILED: u8 = 125;
/// The command could not be started.
const NOT_STARTED: u8 = 126;
/// The program was not found.
const NOT_FOUND: u8 = 127;
/// escherd says no.
pub(crate) const REFUSED: u8 = 1;
/// The arguments make no sense.
const MISUSED: u8 = 2;

/// What a verb's exit status speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// Of the command's end; escher's own failures must not be taken for it.
    AsCommand,
    /// Of the verb's own success.
    AsVerb,
}

/// The conduct of the verb of this name.
pub(crate) fn conduct_of(verb: &str) -> Conduct {
    match verb {
        "run" | "attach" | "wait" => Conduct::AsCommand,
        _ => Conduct::AsVerb,
    }
}

/// For a person or a program that ended escherctl by `signal`, or for a command that died of it.
pub(crate) fn of_signal(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

pub(crate) fn of_usage(conduct: Conduct) -> u8 {
    match conduct {
        Conduct::AsCommand => ESCHER_FAILED,
        Conduct::AsVerb => MISUSED,
    }
}

pub(crate) fn of_failure(failure: &Failure, conduct: Conduct) -> u8 {
    match (failure, conduct) {
        (Failure::Usage { .. }, conduct) => of_usage(conduct),
        (Failure::ClosedPipe, _) => of_signal(Signal::SIGPIPE as i32),
        (Failure::WorkingDirectory(_), Conduct::AsCommand) => NOT_STARTED,
        (_, Conduct::AsCommand) => ESCHER_FAILED,
        (_, Conduct::AsVerb) => REFUSED,
    }
}

/// For a finished execution.
pub(crate) fn of_record(record: &ExecutionRecord) -> u8 {
    match (record.status, &record.outcome) {
        (Status::Completed, _) => 0,
        (Status::Timeout, _) => TIMED_OUT,
        (Status::Cancelled, outcome) => of_signal(cancelling_signal(outcome.as_ref())),
        (Status::Failed, Some(outcome)) => of_failed(outcome),
        (Status::Failed | Status::Lost | Status::Pending | Status::Running, _) => ESCHER_FAILED,
    }
}

fn cancelling_signal(outcome: Option<&Outcome>) -> i32 {
    let of_exit = |outcome: &Outcome| match outcome.exit {
        Exit::Signal { signal, .. } => Some(signal),
        _ => None,
    };
    outcome
        .and_then(|outcome| outcome.ended_by_signal.or(of_exit(outcome)))
        .unwrap_or(Signal::SIGTERM as i32)
}

fn of_failed(outcome: &Outcome) -> u8 {
    let code = outcome.error.as_ref().map(|error| error.code);
    if matches!(
        code,
        Some(ErrorCode::OVERSIZED_OUTPUT | ErrorCode::LOG_FULL)
    ) {
        return ESCHER_FAILED;
    }
    match outcome.exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Exit::Signal { signal, .. } => of_signal(signal),
        Exit::NotStarted { stage, errno } => match code {
            Some(ErrorCode::PROGRAM_NOT_FOUND) => NOT_FOUND,
            None if stage == StartStage::Exec && errno == Errno::ENOENT as i32 => NOT_FOUND,
            _ => NOT_STARTED,
        },
        Exit::Withdrawn | Exit::Unknown => ESCHER_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use escher_client::ApiError;

    #[test]
    fn every_end_has_its_status() {
        let signal = |signal| Exit::Signal {
            signal,
            core_dumped: false,
        };
        let not_started = |stage, errno| Exit::NotStarted { stage, errno };
        let enoent = Errno::ENOENT as i32;
        let table = [
            (Status::Completed, Exit::Code(0), None, None, 0),
            (
                Status::Failed,
                Exit::Code(7),
                Some(ErrorCode::EXIT_STATUS),
                None,
                7,
            ),
            (
                Status::Failed,
                Exit::Code(127),
                Some(ErrorCode::EXIT_STATUS),
                None,
                127,
            ),
            (
                Status::Failed,
                signal(9),
                Some(ErrorCode::SIGNALLED),
                None,
                137,
            ),
            (
                Status::Failed,
                signal(64),
                Some(ErrorCode::SIGNALLED),
                None,
                192,
            ),
            (
                Status::Timeout,
                signal(15),
                Some(ErrorCode::TIMED_OUT),
                Some(15),
                124,
            ),
            (
                Status::Timeout,
                signal(9),
                Some(ErrorCode::TIMED_OUT),
                Some(9),
                124,
            ),
            (
                Status::Timeout,
                Exit::Code(0),
                Some(ErrorCode::TIMED_OUT),
                Some(15),
                124,
            ),
            (
                Status::Cancelled,
                signal(15),
                Some(ErrorCode::CANCELLED),
                Some(15),
                143,
            ),
            (
                Status::Cancelled,
                signal(9),
                Some(ErrorCode::CANCELLED),
                Some(9),
                137,
            ),
            (
                Status::Cancelled,
                Exit::Code(3),
                Some(ErrorCode::CANCELLED),
                Some(15),
                143,
            ),
            (
                Status::Cancelled,
                signal(2),
                Some(ErrorCode::CANCELLED),
                None,
                130,
            ),
            (
                Status::Cancelled,
                Exit::Withdrawn,
                Some(ErrorCode::CANCELLED),
                None,
                143,
            ),
            (
                Status::Failed,
                Exit::Code(0),
                Some(ErrorCode::OVERSIZED_OUTPUT),
                None,
                125,
            ),
            (
                Status::Failed,
                signal(15),
                Some(ErrorCode::OVERSIZED_OUTPUT),
                Some(15),
                125,
            ),
            (
                Status::Failed,
                signal(15),
                Some(ErrorCode::LOG_FULL),
                Some(15),
                125,
            ),
            (
                Status::Failed,
                signal(9),
                Some(ErrorCode::OOM_KILLED),
                None,
                137,
            ),
            (
                Status::Lost,
                Exit::Unknown,
                Some(ErrorCode::LOST),
                None,
                125,
            ),
            (
                Status::Failed,
                not_started(StartStage::Exec, enoent),
                Some(ErrorCode::PROGRAM_NOT_FOUND),
                None,
                127,
            ),
            (
                Status::Failed,
                not_started(StartStage::Exec, enoent),
                None,
                None,
                127,
            ),
            (
                Status::Failed,
                not_started(StartStage::WorkingDirectory, enoent),
                Some(ErrorCode::START_FAILED),
                None,
                126,
            ),
            (
                Status::Failed,
                not_started(StartStage::Exec, Errno::E2BIG as i32),
                Some(ErrorCode::START_FAILED),
                None,
                126,
            ),
        ];
        for (status, exit, code, ended_by_signal, expected) in table {
            let error = code.map(|code| ApiError::new(code, "why"));
            let record = sample::finished(status, exit, error, ended_by_signal);
            assert_eq!(of_record(&record), expected, "{status} {exit:?} {code:?}");
        }
        assert_eq!(of_record(&sample::running()), 125);
    }

    #[test]
    fn failures_of_run_are_not_taken_for_the_commands() {
        let usage = Failure::usage("what?", None);
        assert_eq!(of_failure(&usage, conduct_of("run")), 125);
        assert_eq!(of_failure(&usage, conduct_of("submit")), 2);
        assert_eq!(of_failure(&Failure::ClosedPipe, conduct_of("ps")), 141);
    }
}
