//! Why a command ended, where escher ended it.

use std::time::Duration;

use escher_client::protocol::{Canceller, Exit};
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
    fn names_signals() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(40), "signal 40");
    }
}
