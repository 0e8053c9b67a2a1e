//! Why a command ended, where escher ended it.

use std::time::Duration;

use escher_client::protocol::{Canceller, Exit, Leftovers};
use escher_client::{ErrorCode, ExecutionRecord, Status};
use nix::sys::signal::Signal;

use crate::time;

/// Returns, as one line, why escher ended the command or could not start it; `None` if the command
/// ended by itself.
pub(crate) fn end_reason(record: &ExecutionRecord) -> Option<String> {
    let outcome = record.outcome.as_ref();
    let by_signal = outcome
        .and_then(|outcome| outcome.ended_by_signal)
        .map(|signal| format!(" ({})", signal_name(signal)))
        .unwrap_or_default();
    let error = outcome.and_then(|outcome| outcome.error.as_ref());
    let message = error.map_or_else(String::new, |error| match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.to_string(),
    });
    let code = error.map(|error| error.code);
    match record.status {
        Status::Timeout => {
            let after = record.timeout_ms.map_or_else(String::new, |ms| {
                format!(" after {}", time::duration(Duration::from_millis(ms)))
            });
            Some(format!("timed out{after}{by_signal}"))
        }
        Status::Cancelled => {
            let by = match &record.cancelled_by {
                Some(Canceller::StdinLost) => ": its standard input was lost".to_owned(),
                Some(by) => format!(" by {by}"),
                None => String::new(),
            };
            Some(format!("cancelled{by}{by_signal}"))
        }
        Status::Lost => Some(format!("lost: {message}")),
        Status::Failed if code == Some(ErrorCode::OVERSIZED_OUTPUT) => {
            Some(format!("output limit exceeded{by_signal}: {message}"))
        }
        Status::Failed if code == Some(ErrorCode::LOG_FULL) => Some(format!("log full{by_signal}")),
        Status::Failed if code == Some(ErrorCode::OOM_KILLED) => {
            Some(format!("out of memory: {message}"))
        }
        Status::Failed
            if matches!(
                outcome.map(|outcome| outcome.exit),
                Some(Exit::NotStarted { .. } | Exit::Withdrawn)
            ) =>
        {
            Some(message)
        }
        _ => None,
    }
}

/// Returns how a command ended, whatever happened, and where to read on: the last line at a terminal, behind the
/// number.
pub(crate) fn summary(record: &ExecutionRecord) -> String {
    let number = record.number;
    let outcome = record.outcome.as_ref();
    let exit = outcome.map(|outcome| outcome.exit);
    let mut summary = end_reason(record).unwrap_or_else(|| {
        let how = match exit {
            Some(Exit::Code(0)) | None => record.status.to_string(),
            Some(Exit::Code(code)) => format!("exited with status {code}"),
            Some(Exit::Signal {
                signal,
                core_dumped,
            }) => {
                let dumped = if core_dumped { " (core dumped)" } else { "" };
                format!("killed by {}{dumped}", signal_name(signal))
            }
            Some(other) => self::exit(other),
        };
        let duration = outcome.map_or(0, |outcome| outcome.duration_us);
        let duration = time::duration(Duration::from_micros(duration));
        format!("{how} after {duration}")
    });
    let leftovers = match outcome.map(|outcome| outcome.leftovers) {
        Some(Leftovers::Killed) => "; processes that it left were killed",
        Some(Leftovers::Unkillable) => "; processes that it left could not be killed",
        Some(Leftovers::Left) => "; processes that it left run on",
        Some(Leftovers::None | Leftovers::Unknown) | None => "",
    };
    summary.push_str(leftovers);
    let has_log = outcome.is_some_and(|outcome| outcome.output.log_bytes > 0);
    if record.status != Status::Completed && has_log {
        summary.push_str(&format!("; escherctl logs {number}"));
    }
    summary
}

/// How the main process ended.
pub(super) fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("status {code}"),
        Exit::Signal {
            signal,
            core_dumped,
        } => {
            let dumped = if core_dumped { ", core dumped" } else { "" };
            format!("{}{dumped}", signal_name(signal))
        }
        Exit::NotStarted { stage, .. } => format!("not started (at {})", stage.name()),
        Exit::Withdrawn => "never started".to_owned(),
        Exit::Unknown => "unknown".to_owned(),
    }
}

/// Returns the name of a signal, such as `SIGTERM`.
pub(crate) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(
        |_| format!("signal {number}"),
        |signal| signal.as_str().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::ApiError;
    use escher_client::protocol::StartStage;
    use escher_tests::samples;

    const KILLED: Exit = Exit::Signal {
        signal: 9,
        core_dumped: false,
    };

    fn reason(
        status: Status,
        exit: Exit,
        code: ErrorCode,
        ended_by_signal: Option<i32>,
    ) -> Option<String> {
        let error = Some(ApiError::new(code, "message"));
        end_reason(&samples::finished_execution(
            status,
            exit,
            error,
            ended_by_signal,
        ))
    }

    #[test]
    fn a_command_that_ended_by_itself_has_no_end_reason() {
        let exited = Exit::Code(7);
        let reason = |exit, code| reason(Status::Failed, exit, code, None);
        assert_eq!(reason(exited, ErrorCode::EXIT_STATUS), None);
        assert_eq!(reason(KILLED, ErrorCode::SIGNALLED), None);
    }

    #[test]
    fn names_what_ended_the_command() {
        use Status::{Cancelled, Failed, Timeout};
        let not_started = Exit::NotStarted {
            stage: StartStage::Exec,
            errno: 2,
        };
        for (status, exit, code, signal, expected) in [
            (
                Timeout,
                KILLED,
                ErrorCode::TIMED_OUT,
                Some(9),
                "timed out after 5s (SIGKILL)",
            ),
            (
                Cancelled,
                KILLED,
                ErrorCode::CANCELLED,
                Some(15),
                "cancelled by alice (SIGTERM)",
            ),
            (
                Failed,
                KILLED,
                ErrorCode::OVERSIZED_OUTPUT,
                Some(9),
                "output limit exceeded (SIGKILL): message",
            ),
            (
                Failed,
                KILLED,
                ErrorCode::LOG_FULL,
                Some(15),
                "log full (SIGTERM)",
            ),
            (
                Failed,
                Exit::Code(1),
                ErrorCode::OOM_KILLED,
                None,
                "out of memory: message",
            ),
            (
                Failed,
                not_started,
                ErrorCode::PROGRAM_NOT_FOUND,
                None,
                "message",
            ),
        ] {
            let reason = reason(status, exit, code, signal);
            assert_eq!(reason.as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_last_line_at_a_terminal_says_how_it_ended_whatever_happened() {
        use Status::{Completed, Failed, Lost, Timeout};
        let crashed = Exit::Signal {
            signal: 11,
            core_dumped: true,
        };
        let not_started = Exit::NotStarted {
            stage: StartStage::Exec,
            errno: 2,
        };
        for (status, exit, code, leftovers, log_bytes, expected) in [
            (
                Completed,
                Exit::Code(0),
                None,
                Leftovers::None,
                9,
                "completed after 250ms",
            ),
            (
                Failed,
                Exit::Code(3),
                Some(ErrorCode::EXIT_STATUS),
                Leftovers::None,
                0,
                "exited with status 3 after 250ms",
            ),
            (
                Failed,
                crashed,
                Some(ErrorCode::SIGNALLED),
                Leftovers::None,
                9,
                "killed by SIGSEGV (core dumped) after 250ms; escherctl logs 31",
            ),
            (
                Completed,
                Exit::Code(0),
                None,
                Leftovers::Killed,
                9,
                "completed after 250ms; processes that it left were killed",
            ),
            (
                Timeout,
                KILLED,
                Some(ErrorCode::TIMED_OUT),
                Leftovers::None,
                9,
                "timed out after 5s; escherctl logs 31",
            ),
            (
                Failed,
                not_started,
                Some(ErrorCode::PROGRAM_NOT_FOUND),
                Leftovers::None,
                0,
                "message",
            ),
            (
                Lost,
                Exit::Unknown,
                Some(ErrorCode::LOST),
                Leftovers::Unknown,
                9,
                "lost: message; escherctl logs 31",
            ),
        ] {
            let error = code.map(|code| ApiError::new(code, "message"));
            let mut record = samples::finished_execution(status, exit, error, None);
            record.number = 31;
            let outcome = record.outcome.as_mut().unwrap();
            outcome.duration_us = 250_000;
            outcome.leftovers = leftovers;
            outcome.output.log_bytes = log_bytes;
            assert_eq!(summary(&record), expected);
        }
    }

    #[test]
    fn names_signals() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(40), "signal 40");
    }
}
