//! The engine in a process of its user: this one, which has several at a time.
//!
//! An engine raises the soft limit of open files of its process, and reaps its launcher by pid. Neither disturbs
//! other tests.

use std::sync::Arc;
use std::time::Duration;

use escher_client::protocol::{ExecutionEvent, Metadata, OutputRange};
use escher_client::{
    Blob, CancelAnswer, CancelMode, Command, ErrorCode, ExecutionRequest, ListFilter, Status,
    Timeout,
};
use escher_tests::{DEADLINE, Home, Metrics, exec, in_runtime, shell};
use escherd::{EngineSettings, ExecutionEngine, OnStop, StartError};
use tokio::sync::mpsc;

/// Starts an engine in the directories of `home`.
async fn start(home: &Home) -> ExecutionEngine {
    ExecutionEngine::new(home.engine_settings()).await.unwrap()
}

#[test]
fn an_engine_has_metrics_but_none_of_connections() {
    let home = Home::new();
    in_runtime(async {
        let engine = start(&home).await;
        let id = engine.execute(shell("exit 1")).await.unwrap().id;
        engine.wait_for_completion(id).await.unwrap();
        let metrics = Metrics::parse(&engine.metrics().await.unwrap());
        assert_eq!(metrics.get("executions_submitted_total"), 1.0);
        assert_eq!(metrics.get("run_duration_seconds_count"), 1.0);
        assert!(!metrics.text().contains("connections"));
        engine.shutdown(OnStop::Leave).await;
        let stopped = engine.metrics().await.unwrap_err();
        assert_eq!(stopped.code, ErrorCode::SHUTTING_DOWN);
    });
}

#[test]
fn a_command_is_executed_and_its_result_is_complete() {
    let home = Home::new();
    in_runtime(async {
        let engine = start(&home).await;
        let metadata = Metadata {
            source: Some("ci".into()),
            conversation_id: Some("4711".into()),
            tags: vec!["nightly".into()],
        };
        let request = ExecutionRequest {
            environment: vec![("GREETING".into(), "hello".into())],
            working_dir: Some(home.work().into_os_string().into()),
            timeout: Timeout::After { ms: 60_000 },
            labels: metadata.to_labels(),
            ..shell("echo $GREETING; pwd; echo oops >&2; exit 5")
        };
        let id = engine.execute(request).await.unwrap().id;
        let record = engine.wait_for_completion(id).await.unwrap();
        assert_eq!(engine.get_status("1").await.unwrap(), record);
        assert_eq!(Metadata::from_labels(&record.labels), metadata);

        let result = engine.get_result(id).await.unwrap();
        let directory = home.work().display().to_string();
        assert_eq!(result.stdout, format!("hello\n{directory}\n").as_bytes());
        assert_eq!(result.stderr, b"oops\n");
        assert_eq!((result.id(), result.status()), (id, Status::Failed));
        assert_eq!((result.success(), result.exit_code()), (false, Some(5)));
        assert_eq!(result.error().unwrap().code, ErrorCode::EXIT_STATUS);
        assert!(!result.duration().is_zero());
        assert!(result.started_at() <= result.completed_at());
        assert_eq!((result.output_file(), result.is_cut()), (None, false));
        assert_eq!(result.record, record);

        let path = engine.get_log_path(id).await.unwrap();
        assert_eq!(path, home.log(id));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap().len(),
            12 + directory.len()
        );
        let mut output = engine.read_logs(id, OutputRange::default()).await.unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = output.next().await {
            read.extend_from_slice(&chunk.unwrap().into_chunk().unwrap().data);
        }
        assert_eq!(read, std::fs::read(&path).unwrap());
        engine.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn commands_are_programs_shell_text_or_scripts() {
    let home = Home::new();
    let executable = home.file("executable", "#!/bin/sh\necho executed: $1\n", 0o755);
    let plain = home.file("plain", "echo interpreted $0: $1\n", 0o644);
    let script = |path: &std::path::Path, interpreter: Option<&str>| Command::Script {
        path: path.as_os_str().into(),
        interpreter: interpreter.map(Blob::from),
        arguments: vec!["one two".into()],
    };
    in_runtime(async {
        let engine = start(&home).await;
        for (command, output) in [
            (exec(["printf", "%s", "a  b"]).command, "a  b".to_owned()),
            (shell("printf x; printf y").command, "xy".to_owned()),
            (script(&executable, None), "executed: one two\n".to_owned()),
            (
                script(&plain, Some("/bin/sh")),
                format!("interpreted {}: one two\n", plain.display()),
            ),
        ] {
            let request = ExecutionRequest {
                command,
                ..ExecutionRequest::default()
            };
            let id = engine.execute(request.clone()).await.unwrap().id;
            let result = engine.get_result(id).await.unwrap();
            assert_eq!(String::from_utf8(result.stdout).unwrap(), output);
            // A record has the command as a program with arguments.
            assert_eq!(result.record.command.to_argv(), request.command.to_argv());
            assert!(!matches!(result.record.command, Command::Script { .. }));
        }
        engine.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn executions_are_listed_counted_cancelled_and_removed() {
    let home = Home::new();
    in_runtime(async {
        let engine = start(&home).await;
        let (sender, mut events) = mpsc::unbounded_channel();
        let handler = move |event| drop(sender.send(event));
        let handler = engine.add_event_handler(handler).await.unwrap();
        let running = engine.execute(exec(["sleep", "1000"])).await.unwrap().id;
        // A command may run before the engine hears of it.
        let started = events.recv().await.unwrap();
        assert!(matches!(started, ExecutionEvent::Started { id, .. } if id == running));
        drop(handler);
        let done = engine.execute(exec(["true"])).await.unwrap().id;
        engine.wait_for_completion(done).await.unwrap();
        assert_eq!(engine.running_count().await.unwrap(), 1);
        assert_eq!(engine.total_count().await.unwrap(), 2);

        let list = async |all| {
            let filter = ListFilter {
                all,
                ..ListFilter::default()
            };
            let mut executions = engine.list_executions(filter);
            let mut ids = Vec::new();
            while let Some(record) = executions.next().await {
                ids.push(record.unwrap().id);
            }
            ids
        };
        assert_eq!(list(false).await, [running]);
        assert_eq!(list(true).await, [done, running]);

        let refused = engine.remove_execution(running).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NOT_FINISHED);
        let outcome = engine.cancel(running, CancelMode::Graceful).await;
        assert_eq!(outcome, Ok(CancelAnswer::Ending));
        let record = engine.wait_for_completion(running).await.unwrap();
        assert_eq!(record.status, Status::Cancelled);
        assert_eq!(engine.running_count().await.unwrap(), 0);
        assert_eq!(
            engine.remove_execution(running).await.unwrap().executions,
            1
        );
        let gone = engine.get_status(running).await.unwrap_err();
        assert_eq!(gone.code, ErrorCode::NOT_FOUND);
        assert_eq!(engine.total_count().await.unwrap(), 1);
        engine.shutdown(OnStop::Cancel).await;
    });
}

type Events = mpsc::UnboundedReceiver<ExecutionEvent>;

/// The events of one execution, up to its end. The output of each stream is one entry: it may come in pieces,
/// and two streams in any order.
async fn next_execution(events: &mut Events) -> Vec<String> {
    let (mut seen, mut out, mut err) = (Vec::new(), String::new(), String::new());
    loop {
        let record = match events.recv().await.unwrap() {
            ExecutionEvent::Started { .. } => {
                assert!(out.is_empty() && err.is_empty(), "output before the start");
                seen.push("started".to_owned());
                continue;
            }
            ExecutionEvent::Stdout { data, .. } => {
                out.push_str(&data.to_string_lossy());
                continue;
            }
            ExecutionEvent::Stderr { data, .. } => {
                err.push_str(&data.to_string_lossy());
                continue;
            }
            ExecutionEvent::OutputMissing { gap, .. } => {
                seen.push(format!("missing {:?} {}", gap.bytes, gap.reason.name()));
                continue;
            }
            ExecutionEvent::Completed(record)
            | ExecutionEvent::Failed(record)
            | ExecutionEvent::Cancelled(record)
            | ExecutionEvent::Timeout(record)
            | ExecutionEvent::Lost(record) => record,
        };
        for (stream, text) in [("out", out), ("err", err)] {
            if !text.is_empty() {
                seen.push(format!("{stream} {text}"));
            }
        }
        seen.push(format!("end {}", record.status));
        return seen;
    }
}

#[test]
fn event_handlers_receive_starts_output_and_ends_in_order() {
    let home = Home::new();
    in_runtime(async {
        let engine = start(&home).await;
        let (sender, mut events) = mpsc::unbounded_channel();
        let handler = move |event| drop(sender.send(event));
        let handler = engine.add_event_handler(handler).await.unwrap();
        for (request, expected) in [
            (
                shell("echo a; echo b"),
                &["started", "out a\nb\n", "end completed"][..],
            ),
            (
                shell("echo a; echo b >&2; exit 1"),
                &["started", "out a\n", "err b\n", "end failed"],
            ),
            (exec(["/no/such/program"]), &["end failed"]),
        ] {
            engine.execute(request).await.unwrap();
            assert_eq!(next_execution(&mut events).await, expected);
        }
        let mut timeout = Duration::from_millis(300);
        // A slow machine may time a command out before it has written anything.
        let timed_out = loop {
            let request = ExecutionRequest {
                timeout: Timeout::After {
                    ms: timeout.as_millis() as u64,
                },
                ..shell("echo a; exec sleep 1000")
            };
            engine.execute(request).await.unwrap();
            let seen = next_execution(&mut events).await;
            if seen.len() > 2 {
                break seen;
            }
            assert!(timeout < DEADLINE, "{seen:?}");
            timeout *= 4;
        };
        assert_eq!(timed_out, ["started", "out a\n", "end timeout"]);
        let id = engine.execute(exec(["sleep", "1000"])).await.unwrap().id;
        let started = events.recv().await.unwrap();
        assert!(matches!(started, ExecutionEvent::Started { id: it, .. } if it == id));
        engine.cancel(id, CancelMode::Kill).await.unwrap();
        assert_eq!(next_execution(&mut events).await, ["end cancelled"]);

        drop(handler);
        let id = engine.execute(exec(["true"])).await.unwrap().id;
        engine.wait_for_completion(id).await.unwrap();
        // The handler was dropped with its end of the channel.
        assert_eq!(events.recv().await, None);
        engine.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn a_second_engine_is_refused_the_directories_and_takes_over_once_the_first_has_stopped() {
    let home = Home::new();
    let gate = home.fifo("gate");
    in_runtime(async {
        let first = start(&home).await;
        let second = ExecutionEngine::new(home.engine_settings()).await;
        assert!(
            matches!(second, Err(StartError::DirectoryInUse(_))),
            "{second:?}"
        );
        let text = format!("read line < {}; echo $line; exit 3", gate.name());
        let id = first.execute(shell(&text)).await.unwrap().id;
        first.shutdown(OnStop::Leave).await;
        let refused = first.get_status(id).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::SHUTTING_DOWN);

        let second = start(&home).await;
        gate.write_line("taken over");
        let result = second.get_result(id).await.unwrap();
        assert_eq!(
            (result.exit_code(), &result.stdout[..]),
            (Some(3), &b"taken over\n"[..])
        );
        second.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn a_missing_launcher_is_an_error_that_names_it() {
    let home = Home::new();
    in_runtime(async {
        let error = ExecutionEngine::new(EngineSettings {
            launcher: "/no/such/escher-launcher".into(),
            ..home.engine_settings()
        })
        .await
        .unwrap_err();
        assert!(matches!(error, StartError::Launcher(_)));
        assert!(
            error.to_string().contains("/no/such/escher-launcher"),
            "{error}"
        );
        // The failed attempt is not in the way of the next.
        start(&home).await.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn settings_built_in_code_are_validated_and_can_change() {
    let home = Home::new();
    in_runtime(async {
        let mut invalid = home.engine_settings();
        invalid.reloadable.max_concurrent_executions = 0;
        let error = ExecutionEngine::new(invalid).await.unwrap_err();
        assert!(matches!(error, StartError::Config(_)), "{error}");
        assert!(!home.state().exists(), "nothing was created");

        let engine = start(&home).await;
        let mut settings = engine.settings();
        settings.output.keep_tail_bytes = settings.output.max_bytes;
        let refused = engine.configure(settings).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::INVALID_CONFIGURATION);
        settings.output.max_bytes = 4;
        settings.output.keep_tail_bytes = 2;
        engine.configure(settings).await.unwrap();
        let id = engine
            .execute(exec(["printf", "0123456789"]))
            .await
            .unwrap()
            .id;
        let result = engine.get_result(id).await.unwrap();
        let expected = "01\n[... output truncated at 4B: 6 bytes left out ...]\n89";
        assert_eq!(String::from_utf8(result.stdout).unwrap(), expected);
        engine.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn many_tasks_use_one_engine() {
    let home = Home::new();
    in_runtime(async {
        let engine = Arc::new(start(&home).await);
        let tasks = (0..50).map(|number| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let request = shell(&format!("echo {number}"));
                let id = engine.execute(request).await.unwrap().id;
                let result = engine.get_result(id).await.unwrap();
                assert_eq!(result.stdout, format!("{number}\n").as_bytes());
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(engine.total_count().await.unwrap(), 50);
        engine.shutdown(OnStop::Cancel).await;
    });
}
