//! The object of an execution.

mod resources;

use std::collections::BTreeMap;

use serde::Serialize;

use super::object::{base64, owned, rfc3339, text_or_base64};
use super::output_chunk::MissingOutput;
use crate::{
    Canceller, CurrentUsage, ExecutionRecord, ExecutionResult, Exit, QueuePosition, SentSignal,
    Status, WaitReason,
};
use resources::{Limits, Usage, UsageNow};

/// The JSON object of an execution. Only that of a result has the output.
#[derive(Debug, Serialize)]
pub struct ExecutionObject {
    id: String,
    number: u64,
    name: Option<String>,
    key: Option<String>,
    status: &'static str,
    /// What a pending execution waits for.
    waits_for: Option<&'static str>,
    /// Where an execution that waits for its turn is in the queue. Lists do not have it.
    queue: Option<Queue>,
    /// `null` until the execution is finished.
    success: Option<bool>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    core_dumped: Option<bool>,
    stdout: Option<String>,
    stdout_base64: Option<String>,
    stderr: Option<String>,
    stderr_base64: Option<String>,
    /// Whether `stdout` or `stderr` is incomplete; `null` without a result.
    output_cut: Option<bool>,
    /// What is missing from the log. Only a result says where output was dropped. `null` until the
    /// execution is finished.
    output_missing: Option<Vec<MissingOutput>>,
    /// The log, if `stdout` or `stderr` is truncated.
    output_file: Option<String>,
    log_path: String,
    /// Whether the limits of the history have removed the log.
    log_removed: bool,
    duration_ms: Option<u64>,
    submitted_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    /// Whether the clock was set back meanwhile, so that the times are out of order.
    clock_set_back: bool,
    timeout_ms: Option<u64>,
    kill_grace_ms: u64,
    drain_ms: u64,
    kill_mode: &'static str,
    error: Option<ExecutionError>,
    cancelled_by: Option<String>,
    signals: Vec<Signals>,
    ended_by_signal: Option<i32>,
    user: String,
    uid: u32,
    submitted_by: String,
    submitted_by_uid: u32,
    command: Vec<String>,
    /// The command, if it is not UTF-8.
    command_base64: Option<Vec<String>>,
    /// Whether `command` is truncated, as it may be in lists.
    command_cut: bool,
    working_dir: String,
    /// The directory, if it is not UTF-8.
    working_dir_base64: Option<String>,
    labels: BTreeMap<String, String>,
    pid: Option<u32>,
    usage: Option<Usage>,
    /// Only in `inspect` of a running execution, and `null` if its shim does not answer.
    usage_now: Option<UsageNow>,
    output: Option<OutputTotals>,
    leftovers: Option<&'static str>,
    limits: Limits,
    paused: bool,
    /// Only after a submission: whether the key was in use and no new execution was made.
    existing: Option<bool>,
}

#[derive(Debug, Serialize)]
struct ExecutionError {
    code: String,
    number: u16,
    message: String,
    hint: Option<String>,
    retry: bool,
    /// The step at which the start failed.
    stage: Option<&'static str>,
    /// The cause, errno(3).
    errno: Option<i32>,
}

/// Signals of one number that a user has sent.
#[derive(Debug, Serialize)]
struct Signals {
    signal: i32,
    by: String,
    times: u64,
    last_at: String,
}

impl From<&SentSignal> for Signals {
    fn from(sent: &SentSignal) -> Self {
        Signals {
            signal: sent.signal,
            by: sent.by.to_string(),
            times: sent.times,
            last_at: rfc3339(sent.last_at),
        }
    }
}

#[derive(Debug, Serialize)]
struct OutputTotals {
    stdout_bytes: u64,
    stderr_bytes: u64,
    log_bytes: u64,
    dropped_bytes: u64,
    forgotten_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Queue {
    running: u64,
    max_running: u64,
    ahead: u64,
}

impl From<QueuePosition> for Queue {
    fn from(position: QueuePosition) -> Self {
        Queue {
            running: position.running,
            max_running: position.max_running,
            ahead: position.ahead,
        }
    }
}

impl ExecutionObject {
    /// Makes the object without the output.
    pub fn from_record(record: &ExecutionRecord) -> Self {
        let outcome = record.outcome.as_ref();
        let exit = outcome.map(|outcome| outcome.exit);
        let (signal, core_dumped) = match exit {
            Some(Exit::Signal {
                signal,
                core_dumped,
            }) => (Some(signal), Some(core_dumped)),
            _ => (None, None),
        };
        let (stage, errno) = match exit {
            Some(Exit::NotStarted { stage, errno }) => (Some(stage.name()), Some(errno)),
            _ => (None, None),
        };
        let argv = record.command.to_argv();
        let is_utf8 = argv.iter().all(|word| std::str::from_utf8(word).is_ok());
        let finished = record.status.is_finished();
        let measured = record.resources.measured.unwrap_or_default();
        ExecutionObject {
            id: record.id.to_string(),
            number: record.number,
            name: owned(record.name.as_ref()),
            key: owned(record.key.as_ref()),
            status: record.status.name(),
            waits_for: record.waits_for.map(WaitReason::name),
            queue: match record.waits_for {
                Some(WaitReason::Slot(position)) => position.map(Queue::from),
                _ => None,
            },
            success: finished.then_some(record.status == Status::Completed),
            exit_code: match exit {
                Some(Exit::Code(code)) => Some(code),
                _ => None,
            },
            signal,
            core_dumped,
            stdout: None,
            stdout_base64: None,
            stderr: None,
            stderr_base64: None,
            output_cut: None,
            output_missing: outcome.map(|outcome| MissingOutput::from_totals(&outcome.output)),
            output_file: None,
            log_path: record.log_path.to_string_lossy().into_owned(),
            log_removed: record.log_removed,
            duration_ms: outcome.map(|outcome| outcome.duration_us / 1_000),
            submitted_at: rfc3339(record.submitted_at),
            started_at: record.started_at.map(rfc3339),
            completed_at: record.completed_at.map(rfc3339),
            clock_set_back: record.was_clock_set_back(),
            timeout_ms: record.timeout_ms,
            kill_grace_ms: record.kill_grace_ms,
            drain_ms: record.drain_ms,
            kill_mode: record.kill_mode.name(),
            error: outcome
                .and_then(|outcome| outcome.error.as_ref())
                .map(|error| ExecutionError {
                    code: error.code.to_string(),
                    number: error.code.number(),
                    message: error.message.to_string(),
                    hint: owned(error.hint.as_ref()),
                    retry: error.retry,
                    stage,
                    errno,
                }),
            cancelled_by: record.cancelled_by.as_ref().map(Canceller::to_string),
            signals: record.signals.iter().map(Signals::from).collect(),
            ended_by_signal: outcome.and_then(|outcome| outcome.ended_by_signal),
            user: record.user.to_string(),
            uid: record.user.uid,
            submitted_by: record.submitted_by.to_string(),
            submitted_by_uid: record.submitted_by.uid,
            command: argv
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            command_base64: (!is_utf8).then(|| argv.iter().map(|word| base64(&word[..])).collect()),
            command_cut: record.command_cut,
            working_dir: record.working_dir.to_string_lossy().into_owned(),
            working_dir_base64: std::str::from_utf8(&record.working_dir)
                .is_err()
                .then(|| base64(&record.working_dir[..])),
            labels: record
                .labels
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            pid: record.pid,
            usage: outcome.map(|outcome| Usage::new(&outcome.usage, &measured)),
            usage_now: None,
            output: outcome.map(|outcome| OutputTotals {
                stdout_bytes: outcome.output.stdout_bytes,
                stderr_bytes: outcome.output.stderr_bytes,
                log_bytes: outcome.output.log_bytes,
                dropped_bytes: outcome.output.dropped_bytes,
                forgotten_bytes: outcome.output.forgotten_bytes,
            }),
            leftovers: outcome.map(|outcome| outcome.leftovers.name()),
            limits: Limits::from(&record.resources),
            paused: record.resources.paused,
            existing: None,
        }
    }

    /// Makes the object of a running execution with what it uses at the moment.
    pub fn with_usage(record: &ExecutionRecord, usage: &CurrentUsage) -> Self {
        ExecutionObject {
            usage_now: Some(usage.into()),
            ..ExecutionObject::from_record(record)
        }
    }

    /// Makes the object with the output.
    pub fn from_result(result: ExecutionResult) -> Self {
        let mut object = ExecutionObject::from_record(&result.record);
        object.output_cut = Some(result.is_cut());
        object.output_missing = Some(result.gaps.iter().map(MissingOutput::from).collect());
        object.output_file = result
            .output_file()
            .map(|path| path.to_string_lossy().into_owned());
        (object.stdout, object.stdout_base64) = text_or_base64(result.stdout);
        (object.stderr, object.stderr_base64) = text_or_base64(result.stderr);
        object
    }

    /// Makes the object that answers a submission.
    pub fn from_submission(record: &ExecutionRecord, is_existing: bool) -> Self {
        ExecutionObject {
            existing: Some(is_existing),
            ..ExecutionObject::from_record(record)
        }
    }
}
