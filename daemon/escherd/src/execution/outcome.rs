//! The final state of an execution, from its exit report or from the lack of one.

use escher_launcher::ipc::wire::{EndCause, ExitReport};
use escher_protocol::{
    ApiError, Canceller, ErrorCode, Exit, Leftovers, Measurements, Outcome, OutputStream,
    OutputTotals, ResourceLimits, Status, Timestamp, Usage,
};

use super::start_error::{StartAttempt, explain, not_started};

/// The state of a finished execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalState {
    /// The status that clients see.
    pub status: Status,
    /// When its program was started, if it was.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Timestamp,
    /// Who cancelled it, if that ended it.
    pub cancelled_by: Option<Canceller>,
    /// How it ended.
    pub outcome: Outcome,
}

impl FinalState {
    /// Names in the error what could not be entered or executed, if that is why the command was not started.
    pub fn name_start_attempt(&mut self, attempt: StartAttempt<'_>) {
        if let Exit::NotStarted { stage, errno } = self.outcome.exit
            && let Some(error) = &mut self.outcome.error
            && let Some((message, hint)) = explain(stage, errno, attempt)
        {
            error.message = message.into();
            error.hint = hint.map(Into::into).or(error.hint.take());
        }
    }
}

/// Returns the final state of an execution with this exit report and these limits.
pub(super) fn from_report(report: ExitReport, limits: &ResourceLimits) -> FinalState {
    let measured = report.measured.unwrap_or_default();
    let (status, error) = classify(&report);
    let error = error.map(|error| out_of_memory(&report, &measured, limits).unwrap_or(error));
    let cancelled_by = match report.cause {
        EndCause::Cancelled(by) => Some(by),
        EndCause::Itself
        | EndCause::TimedOut
        | EndCause::LogFull
        | EndCause::OversizedOutput
        | EndCause::UnsupportedPart { .. } => None,
    };
    FinalState {
        status,
        started_at: match report.exit {
            Exit::NotStarted { .. } => None,
            _ => report.started_at,
        },
        completed_at: report.ended_at,
        cancelled_by,
        outcome: Outcome {
            exit: report.exit,
            error,
            ended_by_signal: report.ladder_signal,
            duration_us: report.duration_us,
            usage: usage(report.usage, &measured),
            output: report.output,
            leftovers: report.leftovers,
        },
    }
}

/// Prefers the counts of the cgroup, which cover the whole tree and not only the processes that were waited for.
fn usage(waited_for: Usage, measured: &Measurements) -> Usage {
    Usage {
        user_us: measured.user_us.unwrap_or(waited_for.user_us),
        system_us: measured.system_us.unwrap_or(waited_for.system_us),
        peak_memory_bytes: measured
            .peak_memory_bytes
            .unwrap_or(waited_for.peak_memory_bytes),
    }
}

/// Says who cancelled an execution.
fn cancelled(by: &Canceller) -> String {
    match by {
        Canceller::StdinLost => "cancelled because its standard input was lost".to_owned(),
        by => format!("cancelled by {by}"),
    }
}

/// Returns the final state of an execution that was cancelled in the queue.
pub(super) fn withdrawn(by: Canceller, at: Timestamp) -> FinalState {
    let error = ApiError::new(
        ErrorCode::CANCELLED,
        format!("{} before it was started", cancelled(&by)),
    );
    without_report(
        Status::Cancelled,
        Exit::Withdrawn,
        error,
        Some(by),
        None,
        at,
    )
}

/// Returns the final state of an execution that was never launched, because escherd died at every attempt.
pub(super) fn launch_abandoned(attempts: u32, at: Timestamp) -> FinalState {
    let message = format!(
        "not started: escherd died at each of {attempts} launches of the command (max_launch_attempts)"
    );
    let error = ApiError::new(ErrorCode::LAUNCH_ABANDONED, message).with_hint(
        "escherd's log may say why it died; submit the command again once that is fixed",
    );
    without_report(Status::Failed, Exit::Withdrawn, error, None, None, at)
}

/// Returns the final state of an execution that was not launched, because escherd has died before, and with it the
/// environment that it inherits.
pub(super) fn environment_lost(at: Timestamp) -> FinalState {
    let message = "not started: escherd died just before, and with it the environment of the caller, who was not told \
                   that the command was accepted";
    let error = ApiError::new(ErrorCode::LAUNCH_ABANDONED, message)
        .with_hint("`run` and `submit` repeat the request by themselves; its key is free");
    without_report(Status::Failed, Exit::Withdrawn, error, None, None, at)
}

/// Returns the final state of an execution that was not launched, because the store has lost its request.
pub(super) fn request_unreadable(at: Timestamp) -> FinalState {
    let message = "not started: its request cannot be read from the store";
    let error = ApiError::new(ErrorCode::INTERNAL, message)
        .with_hint("escherd's log says what is damaged; submit the command again");
    without_report(Status::Failed, Exit::Withdrawn, error, None, None, at)
}

/// The cause of a lost execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its shim has died; with what became of the processes of its command.
    ShimDied(Leftovers),
    /// The host went down after its admission.
    HostWentDown,
}

/// Returns the final state of an execution whose outcome cannot be known.
pub(super) fn lost(started_at: Option<Timestamp>, at: Timestamp, loss: Loss) -> FinalState {
    let (message, leftovers) = match loss {
        Loss::ShimDied(leftovers) => (
            "the shim of the command ended without a report; its outcome is not known",
            leftovers,
        ),
        Loss::HostWentDown => (
            "the host went down before the command had ended; its outcome is not known",
            Leftovers::None,
        ),
    };
    let hint = match leftovers {
        Leftovers::None | Leftovers::Killed => "its log shows how far it got",
        Leftovers::Unkillable | Leftovers::Unknown | Leftovers::Left => {
            "its log shows how far it got; check for processes that it may have left"
        }
    };
    let error = ApiError::new(ErrorCode::LOST, message).with_hint(hint);
    let mut lost = without_report(Status::Lost, Exit::Unknown, error, None, started_at, at);
    lost.outcome.leftovers = leftovers;
    lost
}

fn without_report(
    status: Status,
    exit: Exit,
    error: ApiError,
    cancelled_by: Option<Canceller>,
    started_at: Option<Timestamp>,
    at: Timestamp,
) -> FinalState {
    let since = |start: Timestamp| at.as_micros().saturating_sub(start.as_micros());
    FinalState {
        status,
        started_at,
        completed_at: at,
        cancelled_by,
        outcome: Outcome {
            exit,
            error: Some(error),
            ended_by_signal: None,
            duration_us: started_at.map_or(0, |start| u64::try_from(since(start)).unwrap_or(0)),
            usage: Usage::default(),
            output: OutputTotals::default(),
            leftovers: Leftovers::None,
        },
    }
}

/// Derives status and error. The cause takes precedence over the exit: a command that exits with 0 after the SIGTERM of
/// a cancel is cancelled.
fn classify(report: &ExitReport) -> (Status, Option<ApiError>) {
    let error = |code, message: String| Some(ApiError::new(code, message));
    match (&report.cause, report.exit) {
        (_, Exit::Unknown) => {
            let message = "its main process could not be killed and still exists";
            (Status::Lost, error(ErrorCode::LOST, message.to_owned()))
        }
        (EndCause::TimedOut, _) => {
            let after = report.duration_us / 1000;
            let message = format!("timed out; it ended after {after} ms");
            (Status::Timeout, error(ErrorCode::TIMED_OUT, message))
        }
        (EndCause::Cancelled(by), _) => (
            Status::Cancelled,
            error(ErrorCode::CANCELLED, cancelled(by)),
        ),
        (EndCause::LogFull, _) => {
            let message = "it was ended because its log was full: it has reached execution.max_log_bytes or its user's \
                           share (users.log_share), or the disk has no space";
            (
                Status::Failed,
                error(ErrorCode::LOG_FULL, message.to_owned()),
            )
        }
        (EndCause::UnsupportedPart { tag }, _) => (Status::Failed, Some(unsupported(*tag))),
        (EndCause::OversizedOutput, _) => (Status::Failed, Some(oversized(report.output))),
        (EndCause::Itself, Exit::Code(0)) => (Status::Completed, None),
        (EndCause::Itself, Exit::Code(code)) => {
            let message = format!("exited with status {code}");
            (Status::Failed, error(ErrorCode::EXIT_STATUS, message))
        }
        (EndCause::Itself, Exit::Signal { signal, .. }) => {
            let message = format!("died of signal {signal}");
            (Status::Failed, error(ErrorCode::SIGNALLED, message))
        }
        (EndCause::Itself, Exit::NotStarted { stage, errno }) => {
            (Status::Failed, Some(not_started(stage, errno)))
        }
        // Never in a report: such an execution has had no shim.
        (EndCause::Itself, Exit::Withdrawn) => (Status::Cancelled, None),
    }
}

/// Returns the error of a command that failed by itself after the kernel had killed processes of it because memory
/// ran out: its own exit status follows from that.
fn out_of_memory(
    report: &ExitReport,
    measured: &Measurements,
    limits: &ResourceLimits,
) -> Option<ApiError> {
    let kills = measured.oom_kills.filter(|kills| *kills > 0)?;
    let failed_itself = report.cause == EndCause::Itself
        && matches!(report.exit, Exit::Code(_) | Exit::Signal { .. });
    if !failed_itself {
        return None;
    }
    let processes = match kills {
        1 => "a process".to_owned(),
        several => format!("{several} processes"),
    };
    let killed = format!("the kernel killed {processes} of it because memory ran out");
    let (message, hint) = match limits.memory_max {
        Some(bytes) => (
            format!("{killed}: its limit is {bytes} bytes (memory_max)"),
            "raise the limit, or give it less to do",
        ),
        None => (
            killed,
            "it has no limit of its own: the host, or a cgroup above it, ran out of memory",
        ),
    };
    Some(ApiError::new(ErrorCode::OOM_KILLED, message).with_hint(hint))
}

/// Returns the error for too much output, with the longer of the two streams.
fn oversized(output: OutputTotals) -> ApiError {
    let (stream, bytes) = if output.stdout_bytes >= output.stderr_bytes {
        (OutputStream::Stdout, output.stdout_bytes)
    } else {
        (OutputStream::Stderr, output.stderr_bytes)
    };
    let name = stream.name();
    let message = format!("it wrote {bytes} bytes to {name}, which is over the limit");
    let error = ApiError::new(ErrorCode::OVERSIZED_OUTPUT, message);
    match output.dropped_bytes.max(output.forgotten_bytes) {
        0 => error.with_hint("its log has the complete output"),
        _ => error,
    }
}

fn unsupported(tag: u32) -> ApiError {
    let message = format!(
        "cannot be started: part {tag} of the launch is not supported by the installed launcher"
    );
    ApiError::new(ErrorCode::UNSUPPORTED, message).with_hint(
        "the running launcher may be older than the installed one; `escherctl doctor` says how to replace it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::wire::FIRST_ATTEMPT;
    use escher_protocol::{ExecutionId, StartStage, UnsupportedPart, User};

    const USAGE: Usage = Usage {
        user_us: 1,
        system_us: 2,
        peak_memory_bytes: 3,
    };

    fn seen(cause: EndCause, exit: Exit, measured: Option<Measurements>) -> ExitReport {
        let id = ExecutionId::from_bytes([1; 16]);
        ExitReport {
            cause,
            usage: USAGE,
            measured,
            ..ExitReport::new(id, FIRST_ATTEMPT, exit, Timestamp::from_micros(0))
        }
    }

    #[test]
    fn an_unsupported_part_is_named() {
        let id = ExecutionId::from_bytes([1; 16]);
        let part = UnsupportedPart { tag: 4_711 };
        let report = ExitReport::unsupported(id, FIRST_ATTEMPT, part, Timestamp::from_micros(1));
        let end = from_report(report, &ResourceLimits::default());
        let error = end.outcome.error.unwrap();
        assert_eq!((end.status, end.started_at), (Status::Failed, None));
        assert_eq!(error.code, ErrorCode::UNSUPPORTED);
        assert!(error.message.contains("part 4711"), "{error}");
    }

    fn end(cause: EndCause, exit: Exit) -> (Status, Option<u16>) {
        let end = from_report(seen(cause, exit, None), &ResourceLimits::default());
        (
            end.status,
            end.outcome.error.map(|error| error.code.number()),
        )
    }

    #[test]
    fn causes_and_exits_map_to_states_and_errors() {
        let by = || EndCause::Cancelled(Canceller::User(User { uid: 1, name: None }));
        let signal = Exit::Signal {
            signal: 9,
            core_dumped: false,
        };
        let failed = |stage, errno| Exit::NotStarted { stage, errno };
        for (cause, exit, status, error) in [
            (EndCause::Itself, Exit::Code(0), Status::Completed, None),
            (EndCause::Itself, Exit::Code(7), Status::Failed, Some(62)),
            (EndCause::Itself, signal, Status::Failed, Some(63)),
            (
                EndCause::Itself,
                failed(StartStage::Exec, 2),
                Status::Failed,
                Some(60),
            ),
            (
                EndCause::Itself,
                failed(StartStage::Exec, 13),
                Status::Failed,
                Some(61),
            ),
            (
                EndCause::Itself,
                failed(StartStage::WorkingDirectory, 2),
                Status::Failed,
                Some(61),
            ),
            (EndCause::Itself, Exit::Unknown, Status::Lost, Some(66)),
            (EndCause::TimedOut, Exit::Code(0), Status::Timeout, Some(64)),
            (EndCause::TimedOut, signal, Status::Timeout, Some(64)),
            (EndCause::LogFull, signal, Status::Failed, Some(68)),
            (EndCause::OversizedOutput, signal, Status::Failed, Some(67)),
            (
                EndCause::OversizedOutput,
                Exit::Code(0),
                Status::Failed,
                Some(67),
            ),
            (
                EndCause::OversizedOutput,
                Exit::Unknown,
                Status::Lost,
                Some(66),
            ),
            (by(), Exit::Code(0), Status::Cancelled, Some(65)),
            (by(), signal, Status::Cancelled, Some(65)),
        ] {
            assert_eq!(
                end(cause.clone(), exit),
                (status, error),
                "{cause:?} {exit:?}"
            );
        }
    }

    #[test]
    fn counts_of_the_cgroup_take_precedence() {
        let usage = |measured| {
            let seen = seen(EndCause::Itself, Exit::Code(0), measured);
            from_report(seen, &ResourceLimits::default()).outcome.usage
        };
        assert_eq!(usage(None), USAGE);
        assert_eq!(usage(Some(Measurements::default())), USAGE);
        let measured = Measurements {
            user_us: Some(10),
            peak_memory_bytes: Some(0),
            ..Measurements::default()
        };
        let expected = Usage {
            user_us: 10,
            peak_memory_bytes: 0,
            ..USAGE
        };
        assert_eq!(usage(Some(measured)), expected);
    }

    #[test]
    fn out_of_memory_is_the_error_of_a_command_that_failed_by_itself() {
        let itself = || EndCause::Itself;
        let killed = Exit::Signal {
            signal: 9,
            core_dumped: false,
        };
        let not_started = Exit::NotStarted {
            stage: StartStage::Limits,
            errno: 95,
        };
        let oom = Some(ErrorCode::OOM_KILLED);
        for (cause, exit, oom_kills, expected) in [
            (itself(), killed, Some(1), oom),
            (itself(), Exit::Code(1), Some(1), oom),
            (itself(), killed, Some(0), Some(ErrorCode::SIGNALLED)),
            (itself(), killed, None, Some(ErrorCode::SIGNALLED)),
            (itself(), Exit::Code(0), Some(1), None),
            (
                itself(),
                not_started,
                Some(1),
                Some(ErrorCode::START_FAILED),
            ),
            (itself(), Exit::Unknown, Some(1), Some(ErrorCode::LOST)),
            (
                EndCause::TimedOut,
                killed,
                Some(1),
                Some(ErrorCode::TIMED_OUT),
            ),
        ] {
            let measured = Measurements {
                oom_kills,
                ..Measurements::default()
            };
            let seen = seen(cause, exit, Some(measured));
            let end = from_report(seen, &ResourceLimits::default());
            let code = end.outcome.error.map(|error| error.code);
            assert_eq!(code, expected, "{exit:?} {oom_kills:?}");
        }
    }

    #[test]
    fn out_of_memory_names_the_limit_and_the_number_killed() {
        let message = |kills, memory_max| {
            let measured = Measurements {
                oom_kills: Some(kills),
                ..Measurements::default()
            };
            let limits = ResourceLimits {
                memory_max,
                ..ResourceLimits::default()
            };
            let seen = seen(EndCause::Itself, Exit::Code(1), Some(measured));
            let error = from_report(seen, &limits).outcome.error.unwrap();
            (error.message, error.hint.unwrap())
        };
        let (limited, _) = message(3, Some(4096));
        assert!(limited.contains("3 processes") && limited.contains("4096 bytes (memory_max)"));
        let (unlimited, hint) = message(1, None);
        assert!(unlimited.contains("a process of it") && !unlimited.contains("memory_max"));
        assert!(hint.contains("no limit of its own"));
    }

    #[test]
    fn too_much_output_names_its_stream_and_the_complete_log() {
        let complete = Some("its log has the complete output".into());
        for (stdout_bytes, stderr_bytes, dropped_bytes, what, hint) in [
            (11, 0, 0, "11 bytes to stdout", complete.clone()),
            (11, 12, 0, "12 bytes to stderr", complete),
            (12, 12, 1, "12 bytes to stdout", None),
        ] {
            let error = oversized(OutputTotals {
                stdout_bytes,
                stderr_bytes,
                log_bytes: stdout_bytes + stderr_bytes - dropped_bytes,
                dropped_bytes,
                forgotten_bytes: 0,
                reserved_bytes: 0,
            });
            assert!(error.message.contains(what), "{}", error.message);
            assert_eq!(error.hint, hint);
        }
    }
}
