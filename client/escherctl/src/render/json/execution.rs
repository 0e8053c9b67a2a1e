//! The object of an execution.

use std::collections::BTreeMap;

use escher_client::protocol::{Canceller, Exit};
use escher_client::{
    CurrentUsage, ExecutionRecord, ExecutionResult, Resources, Rlimit, SentSignal, Status,
    WaitReason,
};
use serde::Serialize;

use super::object::{base64, owned, text_or_base64};
use super::output_chunk::MissingOutput;
use crate::render::resource_usage::{not_measured, not_measured_now, peak_memory};
use crate::time::rfc3339;

/// The JSON object of an execution. Only that of a result has the output.
#[derive(Debug, Serialize)]
pub(crate) struct ExecutionObject {
    id: String,
    number: u64,
    name: Option<String>,
    key: Option<String>,
    status: &'static str,
    /// What a pending execution waits for.
    waits_for: Option<&'static str>,
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
struct Usage {
    cpu_user_ms: u64,
    cpu_system_ms: u64,
    /// This and the following fields are `null` if they were not measured.
    peak_memory_bytes: Option<u64>,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
    peak_tasks: Option<u64>,
    oom_kills: Option<u64>,
    /// The names of the fields that were not measured.
    not_measured: Vec<&'static str>,
}

/// What is used at the moment; `null` if it is not measured.
#[derive(Debug, Serialize)]
struct UsageNow {
    memory_bytes: Option<u64>,
    tasks: Option<u64>,
    cpu_user_ms: Option<u64>,
    cpu_system_ms: Option<u64>,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
    /// The names of the fields that are not measured.
    not_measured: Vec<&'static str>,
}

impl From<&CurrentUsage> for UsageNow {
    fn from(usage: &CurrentUsage) -> Self {
        UsageNow {
            memory_bytes: usage.memory_bytes,
            tasks: usage.tasks,
            cpu_user_ms: usage.user_us.map(|micros| micros / 1_000),
            cpu_system_ms: usage.system_us.map(|micros| micros / 1_000),
            io_read_bytes: usage.io_read_bytes,
            io_written_bytes: usage.io_written_bytes,
            not_measured: not_measured_now(usage).map(|value| value.field).collect(),
        }
    }
}

/// Limits of the request; `null` means that it sets none.
#[derive(Debug, Serialize)]
struct Limits {
    memory_max: Option<u64>,
    memory_high: Option<u64>,
    cpu_quota: Option<u32>,
    cpu_weight: Option<u32>,
    io_weight: Option<u32>,
    tasks_max: Option<u64>,
    nice: Option<i32>,
    oom_score_adjust: Option<i32>,
    /// By the name of the resource, in lower case.
    rlimits: BTreeMap<String, Limit>,
}

impl From<&Resources> for Limits {
    fn from(resources: &Resources) -> Self {
        let (limits, process) = (&resources.limits, &resources.process);
        let named = |limit: &Rlimit| (limit.resource.name().to_lowercase(), Limit::from(limit));
        Limits {
            memory_max: limits.memory_max,
            memory_high: limits.memory_high,
            cpu_quota: limits.cpu_quota,
            cpu_weight: limits.cpu_weight,
            io_weight: limits.io_weight,
            tasks_max: limits.tasks_max,
            nice: process.nice,
            oom_score_adjust: process.oom_score_adjust,
            rlimits: process.rlimits.iter().map(named).collect(),
        }
    }
}

/// A limit of setrlimit(2); `null` means infinity.
#[derive(Debug, Serialize)]
struct Limit {
    soft: Option<u64>,
    hard: Option<u64>,
}

impl From<&Rlimit> for Limit {
    fn from(limit: &Rlimit) -> Self {
        let finite = |value| Some(value).filter(|value| *value != Rlimit::INFINITY);
        Limit {
            soft: finite(limit.soft),
            hard: finite(limit.hard),
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

impl ExecutionObject {
    /// Makes the object without the output.
    pub(crate) fn from_record(record: &ExecutionRecord) -> Self {
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
            usage: outcome.map(|outcome| Usage {
                cpu_user_ms: outcome.usage.user_us / 1_000,
                cpu_system_ms: outcome.usage.system_us / 1_000,
                peak_memory_bytes: peak_memory(&outcome.usage),
                io_read_bytes: measured.io_read_bytes,
                io_written_bytes: measured.io_written_bytes,
                peak_tasks: measured.peak_tasks,
                oom_kills: measured.oom_kills,
                not_measured: not_measured(&outcome.usage, &measured)
                    .map(|value| value.field)
                    .collect(),
            }),
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
    pub(crate) fn with_usage(record: &ExecutionRecord, usage: &CurrentUsage) -> Self {
        ExecutionObject {
            usage_now: Some(usage.into()),
            ..ExecutionObject::from_record(record)
        }
    }

    /// Makes the object with the output.
    pub(crate) fn from_result(result: ExecutionResult) -> Self {
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
    pub(crate) fn from_submission(record: &ExecutionRecord, is_existing: bool) -> Self {
        ExecutionObject {
            existing: Some(is_existing),
            ..ExecutionObject::from_record(record)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::json::object::line;
    use escher_client::protocol::StartStage;
    use escher_client::{
        ApiError, ErrorCode, Omission, OutputStream, ProcessLimits, RlimitResource,
    };
    use escher_tests::samples;

    /// Scripts read these names.
    #[test]
    fn the_fields_of_a_result_are_stable() {
        let error = ApiError::new(ErrorCode::EXIT_STATUS, "exited with status 7");
        let mut record =
            samples::finished_execution(Status::Failed, Exit::Code(7), Some(error), None);
        record.key = Some("k".into());
        let result = ExecutionResult {
            stdout: b"hello world\n".to_vec(),
            stderr: b"\xff".to_vec(),
            ..ExecutionResult::new(record)
        };
        assert_eq!(
            line(&ExecutionObject::from_result(result)),
            concat!(
                r#"{"id":"01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42","number":17,"name":"greeting","#,
                r#""key":"k","status":"failed","waits_for":null,"success":false,"exit_code":7,"signal":null,"#,
                r#""core_dumped":null,"stdout":"hello world\n","stdout_base64":null,"stderr":null,"#,
                r#""stderr_base64":"/w==","output_cut":false,"output_missing":[],"output_file":null,"#,
                r#""log_path":"/var/log/escher/01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42.log","#,
                r#""log_removed":false,"#,
                r#""duration_ms":1500,"submitted_at":"2023-11-14T22:13:20.000000Z","#,
                r#""started_at":"2023-11-14T22:13:20.001000Z","#,
                r#""completed_at":"2023-11-14T22:13:21.501000Z","clock_set_back":false,"timeout_ms":5000,"#,
                r#""kill_grace_ms":10000,"drain_ms":2000,"kill_mode":"control-group","error":{"code":"exit-status","number":62,"#,
                r#""message":"exited with status 7","hint":null,"retry":false,"stage":null,"#,
                r#""errno":null},"cancelled_by":null,"signals":[],"ended_by_signal":null,"user":"alice","#,
                r#""uid":1000,"submitted_by":"alice","submitted_by_uid":1000,"#,
                r#""command":["echo","hello world"],"command_base64":null,"command_cut":false,"#,
                r#""working_dir":"/srv","working_dir_base64":null,"labels":{"team":"web"},"#,
                r#""pid":null,"usage":{"cpu_user_ms":1,"cpu_system_ms":2,"#,
                r#""peak_memory_bytes":1048576,"io_read_bytes":null,"io_written_bytes":null,"#,
                r#""peak_tasks":null,"oom_kills":null,"not_measured":["io_read_bytes","#,
                r#""io_written_bytes","peak_tasks","oom_kills"]},"usage_now":null,"#,
                r#""output":{"stdout_bytes":12,"stderr_bytes":0,"#,
                r#""log_bytes":12,"dropped_bytes":0,"forgotten_bytes":0},"leftovers":"none","limits":"#,
                r#"{"memory_max":null,"memory_high":null,"cpu_quota":null,"cpu_weight":null,"#,
                r#""io_weight":null,"tasks_max":null,"nice":null,"oom_score_adjust":null,"#,
                r#""rlimits":{}},"paused":false,"#,
                r#""existing":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn fields_without_a_value_are_present() {
        let keys = |record: &ExecutionRecord| {
            let value: serde_json::Value =
                serde_json::from_str(&line(&ExecutionObject::from_record(record))).unwrap();
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        let finished = samples::finished_execution(Status::Completed, Exit::Code(0), None, None);
        assert_eq!(keys(&samples::running_execution()), keys(&finished));
    }

    #[test]
    fn shows_limits_usage_and_what_was_not_measured() {
        let mut finished =
            samples::finished_execution(Status::Completed, Exit::Code(0), None, None);
        finished.resources = samples::measured_resources();
        let shown = line(&ExecutionObject::from_record(&finished));
        for part in [
            r#""io_read_bytes":4096,"io_written_bytes":0,"peak_tasks":null,"oom_kills":0,"#,
            r#""not_measured":["peak_tasks"]"#,
            r#""limits":{"memory_max":67108864,"memory_high":null,"cpu_quota":150,"#,
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        if let Some(outcome) = &mut finished.outcome {
            outcome.usage.peak_memory_bytes = 0;
        }
        let shown = line(&ExecutionObject::from_record(&finished));
        for part in [
            r#""peak_memory_bytes":null"#,
            r#""not_measured":["peak_memory_bytes","peak_tasks"]"#,
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        let mut running = samples::running_execution();
        running.resources.paused = true;
        let shown = line(&ExecutionObject::from_record(&running));
        assert!(
            shown.contains(r#""paused":true"#) && shown.contains(r#""usage":null"#),
            "{shown}"
        );
    }

    #[test]
    fn shows_limits_of_processes_and_what_is_used_at_the_moment() {
        let mut running = samples::running_execution();
        running.resources.process = ProcessLimits {
            nice: Some(-5),
            oom_score_adjust: Some(7),
            rlimits: vec![Rlimit {
                resource: RlimitResource::OpenFiles,
                soft: 1024,
                hard: Rlimit::INFINITY,
            }],
        };
        let usage = CurrentUsage {
            memory_bytes: Some(4096),
            tasks: Some(2),
            user_us: Some(1_999),
            system_us: Some(0),
            ..CurrentUsage::default()
        };
        let shown = line(&ExecutionObject::with_usage(&running, &usage));
        for part in [
            r#""nice":-5,"oom_score_adjust":7,"rlimits":{"nofile":{"soft":1024,"hard":null}}}"#,
            r#""usage_now":{"memory_bytes":4096,"tasks":2,"cpu_user_ms":1,"cpu_system_ms":0,"#,
            r#""io_read_bytes":null,"io_written_bytes":null,"not_measured":["io_read_bytes","io_written_bytes"]}"#,
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn a_failed_start_has_a_stage_and_an_errno() {
        let error = ApiError::new(ErrorCode::START_FAILED, "no such directory");
        let exit = Exit::NotStarted {
            stage: StartStage::WorkingDirectory,
            errno: 2,
        };
        let record = samples::finished_execution(Status::Failed, exit, Some(error), None);
        let shown = line(&ExecutionObject::from_record(&record));
        assert!(
            shown.contains(r#""stage":"working-directory","errno":2}"#),
            "{shown}"
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_base64() {
        let mut record = samples::running_execution();
        record.command = escher_client::Command::Exec {
            argv: vec!["a".into(), b"\xfe"[..].into()],
        };
        let shown = line(&ExecutionObject::from_record(&record));
        assert!(
            shown.contains(r#""command_base64":["YQ==","/g=="]"#),
            "{shown}"
        );
    }

    #[test]
    fn a_truncated_result_names_the_log() {
        let record = samples::finished_execution(Status::Completed, Exit::Code(0), None, None);
        let mut result = ExecutionResult {
            stdout: b"hello".to_vec(),
            ..ExecutionResult::new(record)
        };
        result.omit(Omission {
            stream: OutputStream::Stdout,
            bytes: 7,
            mark: " [more]".into(),
        });
        let shown = line(&ExecutionObject::from_result(result));
        assert!(
            shown.contains(r#""stdout":"hello [more]""#)
                && shown
                    .contains(r#""output_cut":true,"output_missing":[],"output_file":"/var/log"#),
            "{shown}"
        );
    }
}
