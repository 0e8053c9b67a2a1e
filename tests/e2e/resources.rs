//! Limits and usage of resources without cgroups.

use escher_client::protocol::{ExecutionRequest, ResourceLimits, Resources};
use escher_client::{ErrorCode, Status};
use escher_tests::{Daemon, Home, exec, in_runtime};
use escherd::{ExecutionEngine, OnStop};
use serde_json::{Value, json};

#[test]
fn a_limit_that_cannot_be_enforced_is_refused_and_nothing_runs() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    for (property, limit) in [
        ("MemoryMax=64M", "memory_max"),
        ("CPUQuota=50%", "cpu_quota"),
        ("TasksMax=10", "tasks_max"),
        ("MemoryHigh=64M", "memory_high"),
        ("CPUWeight=50", "cpu_weight"),
        ("IOWeight=50", "io_weight"),
    ] {
        for (verb, status) in [("run", 125), ("submit", 1)] {
            let ended = ctl
                .run([verb, "-p", property, "touch", "ran"])
                .expect(status);
            let message = ended.err();
            let refusal = format!("escherctl: {limit} cannot be enforced on this host: ");
            assert!(message.starts_with(&refusal), "{message}");
            assert!(
                message.contains("commands have no cgroups") && message.contains("Delegate=yes"),
                "{message}"
            );
        }
    }
    assert!(!daemon.home().work().join("ran").exists());
    assert_eq!(ctl.json_lines(["ps", "-a"]), [] as [Value; 0]);
    // `infinity` is no limit.
    let words = [
        "run",
        "-p",
        "MemoryMax=infinity",
        "-p",
        "TasksMax=infinity",
        "true",
    ];
    let _ = ctl.run(words).expect(0);
}

#[test]
fn invalid_limits_are_usage_errors() {
    let daemon = Daemon::start();
    for (property, words) in [
        ("MemoryMin=1G", "did you mean `MemoryMax`?"),
        ("MemoryMax=10%", "percentages are not supported"),
        ("TasksMax=4194305", "at most 4194304"),
        ("TasksMax", "NAME=VALUE"),
    ] {
        let ended = daemon
            .ctl()
            .run(["submit", "-p", property, "true"])
            .expect(2);
        assert!(ended.err().contains(words), "{ended:?}");
    }
}

#[test]
fn without_cgroups_pausing_is_an_error() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let (ready, gate) = (daemon.home().fifo("ready"), daemon.home().fifo("gate"));
    let script = format!("echo up > {}; read line < {}", ready.name(), gate.name());
    let id = ctl.submit(["sh", "-c", &script]).to_string();
    assert_eq!(ready.read_line(), "up");
    for verb in ["pause", "resume"] {
        let ended = ctl.run(["--json", verb, &id]).expect(1);
        let error: Value = serde_json::from_str(ended.err()).unwrap();
        assert_eq!(error["error"]["code"], "cannot-pause");
        assert_eq!(error["error"]["retry"], false);
    }
    assert_eq!(ctl.inspect(&id)["paused"], false);
    gate.write_line("go");
    ctl.wait(&id, 0);
    for id in [&id[..], "no-such"] {
        let ended = ctl.run(["--json", "pause", id]).expect(1);
        let error: Value = serde_json::from_str(ended.err()).unwrap();
        let expected = if id == "no-such" {
            "not-found"
        } else {
            "not-running"
        };
        assert_eq!(error["error"]["code"], expected);
    }
}

#[test]
fn values_that_were_not_measured_are_listed() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let id = ctl.submit(["true"]);
    ctl.wait(id, 0);
    let shown = ctl.run(["inspect", &id.to_string()]).expect(0);
    assert!(
        shown.out().contains("not measured: ") && shown.out().contains("bytes read"),
        "{shown:?}"
    );
    let result = ctl.json(["result".to_owned(), id.to_string()]);
    for shown in [ctl.inspect(id), result] {
        let usage = &shown["usage"];
        let missing = [
            "peak_memory_bytes",
            "io_read_bytes",
            "io_written_bytes",
            "peak_tasks",
            "oom_kills",
        ];
        assert_eq!(usage["not_measured"], json!(missing));
        for figure in missing {
            assert_eq!(usage[figure], Value::Null);
        }
        let none = json!({
            "memory_max": null, "memory_high": null, "cpu_quota": null, "cpu_weight": null,
            "io_weight": null, "tasks_max": null, "nice": null, "oom_score_adjust": null,
            "rlimits": {},
        });
        assert_eq!(shown["limits"], none);
        assert_eq!(shown["paused"], false);
        assert_eq!(shown["usage_now"], Value::Null, "it is over");
    }
}

/// What the main process alone uses is not what the command uses, so nothing is shown for it.
#[test]
fn without_cgroups_nothing_is_measured_while_a_command_runs() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let (ready, gate) = (daemon.home().fifo("ready"), daemon.home().fifo("gate"));
    let script = format!("echo up > {}; read line < {}", ready.name(), gate.name());
    let id = ctl.submit(["sh", "-c", &script]).to_string();
    assert_eq!(ready.read_line(), "up");
    let figures = [
        "memory_bytes",
        "tasks",
        "cpu_user_ms",
        "cpu_system_ms",
        "io_read_bytes",
        "io_written_bytes",
    ];
    let usage = &ctl.inspect(&id)["usage_now"];
    assert_eq!(usage["not_measured"], json!(figures));
    for figure in figures {
        assert_eq!(usage[figure], Value::Null);
    }
    let shown = ctl.run(["inspect", &id]).expect(0);
    assert!(shown.out().contains("not measured: "), "{shown:?}");
    let listed = &ctl.json_lines(["ps"])[0];
    assert_eq!(listed["usage_now"], Value::Null, "a list measures nothing");
    gate.write_line("go");
    ctl.wait(&id, 0);
}

#[test]
fn an_embedded_engine_has_the_same_calls() {
    let home = Home::new();
    in_runtime(async {
        let engine = ExecutionEngine::new(home.engine_settings()).await.unwrap();
        let limits = ResourceLimits {
            tasks_max: Some(1),
            ..ResourceLimits::default()
        };
        let limited = ExecutionRequest {
            limits,
            ..exec(["true"])
        };
        let refused = engine.execute(limited).await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::LIMIT_UNENFORCEABLE);
        let id = engine.execute(exec(["true"])).await.unwrap().id;
        let record = engine.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Completed);
        assert_eq!(record.resources, Resources::default());
        assert_eq!(
            engine.measure_usage(id).await.unwrap_err().code,
            ErrorCode::NOT_RUNNING
        );
        assert_eq!(
            engine.pause(id).await.unwrap_err().code,
            ErrorCode::NOT_RUNNING
        );
        assert_eq!(
            engine.resume(id).await.unwrap_err().code,
            ErrorCode::NOT_RUNNING
        );
        engine.shutdown(OnStop::Leave).await;
    });
}
