//! The fields of executions as scripts read them.

use super::*;
use escher_client::protocol::{Exit, StartStage};
use escher_client::{
    ApiError, CurrentUsage, ErrorCode, ExecutionRecord, ExecutionResult, Omission, OutputStream,
    ProcessLimits, Rlimit, RlimitResource, Status,
};
use escher_tests::samples;

/// Scripts read these names.
#[test]
fn the_fields_of_a_result_are_stable() {
    let error = ApiError::new(ErrorCode::EXIT_STATUS, "exited with status 7");
    let mut record = samples::finished_execution(Status::Failed, Exit::Code(7), Some(error), None);
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
            r#""key":"k","status":"failed","waits_for":null,"queue":null,"success":false,"exit_code":7,"signal":null,"#,
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
    let mut finished = samples::finished_execution(Status::Completed, Exit::Code(0), None, None);
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
            && shown.contains(r#""output_cut":true,"output_missing":[],"output_file":"/var/log"#),
        "{shown}"
    );
}
