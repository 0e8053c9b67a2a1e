//! The client library with a real escherd.

use std::collections::BTreeSet;
use std::time::Duration;

use escher_client::protocol::{Exit, Leftovers};
use escher_client::{
    CancelAnswer, CancelMode, Client, ConnectError, Connector, Error, ErrorCode, EventKind,
    EventsRequest, EventsStart, ExecutionEvent, ExecutionRequest, ListFilter, OutputRange,
    OutputStart, Status, Timeout,
};
use escher_tests::{Daemon, Home, collect, connect, exec, in_runtime, shell, wait_started};
use tokio::sync::mpsc;

#[test]
fn execute_wait_and_get_the_result() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        assert!(client.welcome().daemon.starts_with("escherd "));
        let request = ExecutionRequest {
            name: Some("it".into()),
            labels: vec![("team".into(), "web".into())],
            environment: vec![("GREETING".into(), "hello".into())],
            ..shell("echo $GREETING; echo oops >&2; exit 5")
        };
        let submitted = client.execute(request).await.unwrap();
        assert_eq!((submitted.number, submitted.existing), (1, false));
        let record = client.wait_for_completion(submitted.id).await.unwrap();
        assert_eq!(record.status, Status::Failed);
        assert!(record.submitted_at <= record.started_at.unwrap());
        assert!(record.started_at <= record.completed_at);
        let log_path = client.get_log_path("it").await.unwrap();
        assert_eq!(log_path, daemon.home().log(submitted.id));
        let outcome = record.outcome.clone().unwrap();
        assert_eq!(outcome.exit, Exit::Code(5));
        assert_eq!(outcome.leftovers, Leftovers::None);
        assert_eq!(
            (outcome.output.stdout_bytes, outcome.output.stderr_bytes),
            (6, 5)
        );
        assert_eq!(
            (outcome.output.log_bytes, outcome.output.dropped_bytes),
            (11, 0)
        );
        let result = client.get_result("it").await.unwrap();
        assert_eq!(
            (&result.stdout[..], &result.stderr[..]),
            (&b"hello\n"[..], &b"oops\n"[..])
        );
        assert_eq!(result.record, record);
        assert_eq!(client.get_status("1").await.unwrap(), record);
    });
}

#[test]
fn cpu_time_and_memory_of_a_command_are_measured() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        // 64 MiB in memory, and some processor time.
        let script = "x=$(head -c 67108864 /dev/zero | tr '\\0' x); i=0; \
                      while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let id = client.execute(shell(script)).await.unwrap().id;
        let outcome = client
            .wait_for_completion(id)
            .await
            .unwrap()
            .outcome
            .unwrap();
        assert!(outcome.usage.peak_memory_bytes >= 64 << 20, "{outcome:?}");
        assert!(outcome.usage.user_us > 0, "{outcome:?}");
        let busy = outcome.usage.user_us + outcome.usage.system_us;
        assert!(busy <= outcome.duration_us * 64, "{outcome:?}");
    });
}

#[test]
fn a_timed_out_command_has_the_status_timeout() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = ExecutionRequest {
            timeout: Timeout::After { ms: 200 },
            ..exec(["sleep", "600"])
        };
        let id = client.execute(request).await.unwrap().id;
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(
            (record.status, record.timeout_ms),
            (Status::Timeout, Some(200))
        );
        let outcome = record.outcome.unwrap();
        assert_eq!(outcome.error.as_ref().unwrap().code, ErrorCode::TIMED_OUT);
        assert_eq!(outcome.ended_by_signal, Some(15));
        assert!(
            outcome.duration_us >= 200_000,
            "not before its timeout: {outcome:?}"
        );
    });
}

#[test]
fn the_default_timeout_of_the_configuration_applies() {
    let daemon = Daemon::with_config("[execution]\ndefault_timeout_ms = 300\n");
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(exec(["sleep", "600"])).await.unwrap().id;
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(
            (record.status, record.timeout_ms),
            (Status::Timeout, Some(300))
        );
    });
}

#[test]
fn running_commands_can_be_cancelled_and_signalled() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(exec(["sleep", "600"])).await.unwrap().id;
        wait_started(&client, id).await;
        assert_eq!(
            client.cancel(id, CancelMode::Graceful).await.unwrap(),
            CancelAnswer::Ending
        );
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Cancelled);
        assert!(record.cancelled_by.is_some());
        let again = client.cancel(id, CancelMode::Graceful).await.unwrap();
        assert_eq!(again, CancelAnswer::AlreadyFinished(Status::Cancelled));

        let id = client.execute(exec(["sleep", "600"])).await.unwrap().id;
        wait_started(&client, id).await;
        client.signal(id, 10).await.unwrap();
        let outcome = client
            .wait_for_completion(id)
            .await
            .unwrap()
            .outcome
            .unwrap();
        assert_eq!(
            outcome.exit,
            Exit::Signal {
                signal: 10,
                core_dumped: false
            }
        );
        let late = client.signal(id, 10).await.unwrap_err();
        assert_eq!(late.as_api().unwrap().code, ErrorCode::NOT_RUNNING);
        let none = client.signal(id, 1000).await.unwrap_err();
        assert_eq!(none.as_api().unwrap().code, ErrorCode::INVALID_REQUEST);
        let unknown = client.get_status("no-such-thing").await.unwrap_err();
        assert_eq!(unknown.as_api().unwrap().code, ErrorCode::NOT_FOUND);
    });
}

#[test]
fn long_lists_are_complete_and_newest_first() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let long = "x".repeat(100_000);
        for _ in 0..600 {
            client.execute(exec(["true", &long])).await.unwrap();
        }
        let all = ListFilter {
            all: true,
            ..ListFilter::default()
        };
        let mut list = client.list_executions(all.clone()).await.unwrap();
        let mut numbers = Vec::new();
        while let Some(record) = list.next().await {
            let record = record.unwrap();
            assert!(record.command_cut);
            numbers.push(record.number);
        }
        assert_eq!(numbers, (1..=600).rev().collect::<Vec<_>>());
        let limited = ListFilter { limit: 7, ..all };
        let mut list = client.list_executions(limited).await.unwrap();
        let mut count = 0;
        while list.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 7);
    });
}

#[test]
fn logs_are_read_by_range_and_last_lines() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(exec(["seq", "100000"])).await.unwrap().id;
        client.wait_for_completion(id).await.unwrap();
        let last = OutputRange {
            start: OutputStart::LastLines(3),
            ..OutputRange::default()
        };
        let mut output = client.read_logs(id, last).await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = output.next().await {
            text.extend_from_slice(&chunk.unwrap().into_chunk().unwrap().data);
        }
        assert_eq!(text, b"99998\n99999\n100000\n");
        let all: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        let range = OutputRange {
            length: Some(300_000),
            ..OutputRange::from_offset(123_456)
        };
        let (part, _, end) = collect(client.read_logs(id, range).await.unwrap(), 123_456).await;
        assert_eq!(end, 423_456);
        assert!(part == all.as_bytes()[123_456..423_456]);
    });
}

#[test]
fn events_are_followed_and_resumed() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let all = EventsRequest {
            follow: true,
            ..EventsRequest::default()
        };
        let mut events = client.events(all).await.unwrap();
        let id = client.execute(exec(["true"])).await.unwrap().id;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(event.id, id);
            seen.push((event.sequence, event.kind));
        }
        let kinds: Vec<&EventKind> = seen.iter().map(|event| &event.1).collect();
        let expected = [
            EventKind::Submitted,
            EventKind::Started,
            EventKind::Finished(Status::Completed),
        ];
        assert_eq!(kinds, expected.iter().collect::<Vec<_>>());
        assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let rest = EventsRequest {
            start: EventsStart::After(seen[1].0),
            follow: false,
            ..EventsRequest::default()
        };
        let mut events = client.events(rest).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap().sequence, seen[2].0);
        assert!(events.next().await.is_none());
    });
}

#[test]
fn one_connection_serves_500_tasks_at_once() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let runs = (0..500).map(|index| {
            let client = client.clone();
            async move {
                let id = client
                    .execute(exec(["echo", &index.to_string()]))
                    .await
                    .unwrap()
                    .id;
                let (result, record) =
                    tokio::join!(client.get_result(id), client.wait_for_completion(id));
                assert_eq!(result.unwrap().stdout, format!("{index}\n").as_bytes());
                record.unwrap().number
            }
        });
        let numbers = futures_util::future::join_all(runs).await;
        let numbers: BTreeSet<u64> = numbers.into_iter().collect();
        assert_eq!(numbers.len(), 500);
    });
}

#[test]
fn futures_and_streams_may_be_dropped_at_any_time() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let script = format!("seq 1 100000; read line < {}", gate.name());
        let id = client.execute(shell(&script)).await.unwrap().id;
        // Many more than may be in flight at once: each has to be given up.
        for _ in 0..2000 {
            let waited = tokio::time::timeout(Duration::ZERO, client.wait_for_completion(id)).await;
            assert!(waited.is_err());
        }
        for _ in 0..500 {
            let mut output = client.follow(id, OutputRange::default()).await.unwrap();
            output.next().await.unwrap().unwrap();
        }
        assert_eq!(client.get_status(id).await.unwrap().status, Status::Running);
        gate.write_line("go");
        assert_eq!(
            client.wait_for_completion(id).await.unwrap().status,
            Status::Completed
        );
    });
}

/// A chunk is returned once, or is still in the stream.
#[test]
fn next_is_cancel_safe() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let id = client.execute(exec(["seq", "200000"])).await.unwrap().id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        let mut text = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                chunk = output.next() => match chunk {
                    Some(chunk) => text.extend_from_slice(&chunk.unwrap().into_chunk().unwrap().data),
                    None => break,
                },
            }
        }
        let all: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
        assert!(text == all.as_bytes(), "{} bytes", text.len());
    });
}

#[test]
fn without_reconnecting_a_lost_connection_fails_all_its_calls() {
    let mut daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let connector = Connector::new(daemon.home().socket());
        let connector = connector.reconnect_timeout(Duration::ZERO);
        let client = connector.connect().await.unwrap();
        let request = shell(&format!("read line < {}", gate.name()));
        let id = client.execute(request).await.unwrap().id;
        wait_started(&client, id).await;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.wait_for_completion(id).await }
        });
        daemon.kill();
        assert!(matches!(
            output.next().await,
            Some(Err(Error::Disconnected(_)))
        ));
        assert!(output.next().await.is_none());
        assert!(matches!(
            waiting.await.unwrap(),
            Err(Error::Disconnected(_))
        ));
        assert!(matches!(client.info().await, Err(Error::Disconnected(_))));
    });
    gate.write_line("go");
}

#[test]
fn a_missing_escherd_is_a_typed_error_with_the_path() {
    let home = Home::new();
    in_runtime(async {
        let error = Client::connect(home.socket()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoDaemon { .. }), "{error:?}");
        assert_eq!(error.path(), home.socket());
        // The same for a socket that nobody listens on any more.
        drop(std::os::unix::net::UnixListener::bind(home.socket()).unwrap());
        let error = Client::connect(home.socket()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoDaemon { .. }), "{error:?}");
    });
}

#[test]
fn an_event_handler_receives_the_events_of_each_execution_in_order() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let before = client.execute(exec(["true"])).await.unwrap().id;
        client.wait_for_completion(before).await.unwrap();
        let (sender, mut events) = mpsc::unbounded_channel();
        let _handler = client
            .add_event_handler(move |event| drop(sender.send(event)))
            .await
            .unwrap();
        let one = shell("echo out; echo err >&2; exit 3");
        let one = client.execute(one).await.unwrap().id;
        let other = client.execute(exec(["/no/such/program"])).await;
        let other = other.unwrap().id;

        let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
        let mut output = (Vec::new(), Vec::new());
        while of_one.last() != Some(&"failed") || of_other.is_empty() {
            let (id, what) = match events.recv().await.unwrap() {
                ExecutionEvent::Started { id, .. } => (id, "started"),
                ExecutionEvent::Stdout { id, data } => {
                    output.0.extend_from_slice(&data);
                    (id, "stdout")
                }
                ExecutionEvent::Stderr { id, data } => {
                    output.1.extend_from_slice(&data);
                    (id, "stderr")
                }
                ExecutionEvent::Failed(record) => (record.id, "failed"),
                other => panic!("{other:?}"),
            };
            match id {
                id if id == one => of_one.push(what),
                id if id == other => of_other.push(what),
                other => panic!("{other} started before"),
            }
        }
        assert_eq!((of_one[0], of_one[of_one.len() - 1]), ("started", "failed"));
        assert_eq!(output, (b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(of_other, ["failed"]);
    });
}
