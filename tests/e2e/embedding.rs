//! The engine in this process, without escherd.

use std::sync::Arc;

use escher_client::protocol::{ExecutionEvent, Metadata, OutputRange};
use escher_client::{
    Blob, CancelMode, CancelOutcome, Command, ErrorCode, ExecutionRequest, ListFilter, Status,
    Timeout,
};
use escher_tests::{Home, Metrics, exec, in_runtime, shell};
use escherd::{EngineConfig, ExecutionEngine, OnStop, StartError};
use tokio::sync::mpsc;

/// An engine on directories of its own.
async fn engine(home: &Home) -> ExecutionEngine {
    ExecutionEngine::new(home.engine_config()).await.unwrap()
}

#[test]
fn an_engine_tells_its_figures_and_has_no_connections_to_count() {
    let home = Home::new();
    in_runtime(async {
        let engine = engine(&home).await;
        let id = engine.execute(shell("exit 1")).await.unwrap().id;
        engine.wait_for_completion(id).await.unwrap();
        let figures = Metrics::parse(&engine.metrics().await.unwrap());
        assert_eq!(figures.get("executions_submitted_total"), 1.0);
        assert_eq!(figures.get("run_duration_seconds_count"), 1.0);
        assert!(!figures.text().contains("connections"));
        engine.shutdown(OnStop::Leave).await;
        let stopped = engine.metrics().await.unwrap_err();
        assert_eq!(stopped.code, ErrorCode::SHUTTING_DOWN);
    });
}

#[test]
fn a_command_is_executed_and_its_result_has_everything() {
    let home = Home::new();
    in_runtime(async {
        let engine = engine(&home).await;
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
        assert_eq!(Metadata::of_labels(&record.labels), metadata);

        let result = engine.get_result(id).await.unwrap();
        let here = home.work().display().to_string();
        assert_eq!(result.stdout, format!("hello\n{here}\n").as_bytes());
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
            12 + here.len()
        );
        let mut output = engine.read_logs(id, OutputRange::default()).await.unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = output.next().await {
            read.extend_from_slice(&chunk.unwrap().data);
        }
        assert_eq!(read, std::fs::read(&path).unwrap());
        engine.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn commands_come_as_programs_shell_text_and_scripts() {
    let home = Home::new();
    let with_line = home.file("with-line", "#!/bin/sh\necho by its line: $1\n", 0o755);
    let without = home.file("without", "echo by $0: $1\n", 0o644);
    let script = |path: &std::path::Path, interpreter: Option<&str>| Command::Script {
        path: path.as_os_str().into(),
        interpreter: interpreter.map(Blob::from),
        arguments: vec!["one two".into()],
    };
    in_runtime(async {
        let engine = engine(&home).await;
        for (command, output) in [
            (exec(["printf", "%s", "a  b"]).command, "a  b".to_owned()),
            (shell("printf x; printf y").command, "xy".to_owned()),
            (
                script(&with_line, None),
                "by its line: one two\n".to_owned(),
            ),
            (
                script(&without, Some("/bin/sh")),
                format!("by {}: one two\n", without.display()),
            ),
        ] {
            let request = ExecutionRequest {
                command,
                ..ExecutionRequest::default()
            };
            let id = engine.execute(request.clone()).await.unwrap().id;
            let result = engine.get_result(id).await.unwrap();
            assert_eq!(String::from_utf8(result.stdout).unwrap(), output);
            // A record says what is run, in words that every client knows.
            assert_eq!(result.record.command.to_argv(), request.command.to_argv());
            assert!(!matches!(result.record.command, Command::Script { .. }));
        }
        engine.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn executions_are_listed_counted_cancelled_and_removed() {
    let home = Home::new();
    let gate = home.fifo("gate");
    in_runtime(async {
        let engine = engine(&home).await;
        let text = format!("echo up > {0}; exec sleep 1000", gate.name());
        let running = engine.execute(shell(&text)).await.unwrap().id;
        // The engine lives on this thread, too.
        let heard = tokio::task::spawn_blocking(move || gate.read_line()).await;
        assert_eq!(heard.unwrap(), "up");
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
        assert_eq!(outcome, Ok(CancelOutcome::Ending));
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

type Heard = mpsc::UnboundedReceiver<ExecutionEvent>;

/// What a handler hears of one execution, up to its end.
async fn story(heard: &mut Heard) -> Vec<String> {
    let mut story: Vec<String> = Vec::new();
    loop {
        let word = match heard.recv().await.unwrap() {
            ExecutionEvent::Started { .. } => "started".to_owned(),
            ExecutionEvent::Stdout { data, .. } => format!("out {}", data.to_string_lossy()),
            ExecutionEvent::Stderr { data, .. } => format!("err {}", data.to_string_lossy()),
            ExecutionEvent::Completed(record) => format!("end {}", record.status),
            ExecutionEvent::Failed(record) => format!("end {}", record.status),
            ExecutionEvent::Cancelled(record) => format!("end {}", record.status),
            ExecutionEvent::Timeout(record) => format!("end {}", record.status),
            ExecutionEvent::Lost(record) => format!("end {}", record.status),
        };
        let is_end = word.starts_with("end ");
        // One stream's bytes may come in pieces.
        match (story.last_mut(), word.strip_prefix("out ")) {
            (Some(last), Some(more)) if last.starts_with("out ") => last.push_str(more),
            _ => story.push(word),
        }
        if is_end {
            return story;
        }
    }
}

#[test]
fn handlers_hear_of_starts_output_and_ends_in_order() {
    let home = Home::new();
    in_runtime(async {
        let engine = engine(&home).await;
        let (tell, mut heard) = mpsc::unbounded_channel();
        let handler = move |event| drop(tell.send(event));
        let handler = engine.add_event_handler(handler).await.unwrap();
        let limited = |text| ExecutionRequest {
            timeout: Timeout::After { ms: 300 },
            ..shell(text)
        };
        for (request, expected) in [
            (
                shell("echo a; echo b"),
                &["started", "out a\nb\n", "end completed"][..],
            ),
            (
                shell("echo a; echo b >&2; exit 1"),
                &["started", "out a\n", "err b\n", "end failed"],
            ),
            (
                limited("echo a; exec sleep 1000"),
                &["started", "out a\n", "end timeout"],
            ),
            (exec(["/no/such/program"]), &["end failed"]),
        ] {
            engine.execute(request).await.unwrap();
            assert_eq!(story(&mut heard).await, expected);
        }
        let id = engine.execute(exec(["sleep", "1000"])).await.unwrap().id;
        let started = heard.recv().await.unwrap();
        assert!(matches!(started, ExecutionEvent::Started { id: it, .. } if it == id));
        engine.cancel(id, CancelMode::Kill).await.unwrap();
        assert_eq!(story(&mut heard).await, ["end cancelled"]);

        drop(handler);
        let id = engine.execute(exec(["true"])).await.unwrap().id;
        engine.wait_for_completion(id).await.unwrap();
        // With the handler went its end of the channel.
        assert_eq!(heard.recv().await, None);
        engine.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn two_engines_do_not_share_directories_and_the_next_takes_over_what_runs() {
    let home = Home::new();
    let gate = home.fifo("gate");
    in_runtime(async {
        let first = engine(&home).await;
        let second = ExecutionEngine::new(home.engine_config()).await;
        assert!(matches!(second, Err(StartError::InUse(_))), "{second:?}");
        let text = format!("read line < {}; echo $line; exit 3", gate.name());
        let id = first.execute(shell(&text)).await.unwrap().id;
        first.shutdown(OnStop::Leave).await;
        let refused = first.get_status(id).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::SHUTTING_DOWN);

        let second = engine(&home).await;
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
fn without_a_launcher_there_is_no_engine_and_the_error_names_it() {
    let home = Home::new();
    in_runtime(async {
        let error = ExecutionEngine::new(EngineConfig {
            launcher: "/no/such/escher-launcher".into(),
            ..home.engine_config()
        })
        .await
        .unwrap_err();
        assert!(matches!(error, StartError::Launcher(_)));
        assert!(
            error.to_string().contains("/no/such/escher-launcher"),
            "{error}"
        );
        // Nothing of the attempt is in the way of the next.
        engine(&home).await.shutdown(OnStop::Cancel).await;
    });
}

#[test]
fn settings_that_a_program_makes_up_are_checked_and_can_change() {
    let home = Home::new();
    in_runtime(async {
        let mut wrong = home.engine_config();
        wrong.executions.max_concurrent_executions = 0;
        let error = ExecutionEngine::new(wrong).await.unwrap_err();
        assert!(matches!(error, StartError::Config(_)), "{error}");
        assert!(!home.state().exists(), "nothing was begun");

        let engine = engine(&home).await;
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

/// A clone is the same engine, whoever has it.
#[test]
fn many_tasks_use_one_engine() {
    let home = Home::new();
    in_runtime(async {
        let engine = Arc::new(engine(&home).await);
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
