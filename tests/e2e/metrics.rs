//! Metrics after commands with known results.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use escher_client::CancelMode;
use escher_tests::{
    DEADLINE, Daemon, HeldConnections, Home, Metrics, connect, exec, in_runtime, shell,
    wait_started,
};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PAGE: &str = include_str!("../../docs/metrics.md");

/// Starts an escherd and runs commands, so that every metric has a value.
fn daemon_with_history() -> Daemon {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let ctl = daemon.ctl();
    let _ = ctl
        .run(["run", "sh", "-c", "echo four; echo err >&2"])
        .expect(0);
    let _ = ctl
        .run(["run", "--name", "confidential", "sh", "-c", "exit 3"])
        .expect(3);
    let _ = ctl.run(["run", "sh", "-c", "kill -KILL $$"]).expect(137);
    // It has to start before its timeout, also on a slow machine.
    let _ = ctl
        .run(["run", "--timeout", "2s", "sleep", "1000"])
        .expect(124);
    let _ = ctl.run(["run", "/no/such/program"]).expect(127);
    let _ = ctl.run(["run", "--timeout", "100h", "true"]).expect(125);
    daemon
}

#[test]
fn finished_executions_are_counted_by_status_and_error() {
    let daemon = daemon_with_history();
    let metrics = Metrics::fetch(&daemon);
    for (sample, value) in [
        (r#"executions{state="pending"}"#, 0.0),
        (r#"executions{state="running"}"#, 0.0),
        (r#"executions{state="finished"}"#, 5.0),
        (r#"executions_limit{state="running"}"#, 1.0),
        (r#"executions_limit{state="pending"}"#, 10_000.0),
        ("executions_submitted_total", 5.0),
        (
            r#"submissions_refused_total{error="timeout-too-long"}"#,
            1.0,
        ),
        (
            r#"executions_finished_total{status="completed",error=""}"#,
            1.0,
        ),
        (
            r#"executions_finished_total{status="failed",error="exit-status"}"#,
            1.0,
        ),
        (
            r#"executions_finished_total{status="failed",error="signalled"}"#,
            1.0,
        ),
        (
            r#"executions_finished_total{status="failed",error="program-not-found"}"#,
            1.0,
        ),
        (
            r#"executions_finished_total{status="timeout",error="timed-out"}"#,
            1.0,
        ),
        (
            r#"executions_finished_total{status="cancelled",error="cancelled"}"#,
            0.0,
        ),
        (r#"kills_total{by="other",signal="SIGKILL"}"#, 1.0),
        (r#"kills_total{by="escher",signal="SIGTERM"}"#, 1.0),
        (r#"output_bytes_total{stream="stdout"}"#, 5.0),
        (r#"output_bytes_total{stream="stderr"}"#, 4.0),
        ("output_dropped_bytes_total", 0.0),
        ("queue_wait_seconds_count", 5.0),
        // A missing program is never started.
        ("launch_latency_seconds_count", 4.0),
        ("run_duration_seconds_count", 4.0),
        ("executions_adopted_total", 0.0),
        ("connections_accepted_total", 7.0),
        ("connections_refused_total", 0.0),
        ("store_failures_total", 0.0),
    ] {
        assert_eq!(metrics.get(sample), value, "{sample}\n{}", metrics.text());
    }
    // The client that asks is one of them.
    assert!(metrics.get("connections") >= 1.0);
    // The database gets several changes at once.
    assert!(metrics.get("store_commit_seconds_count") > 0.0);
    assert!(metrics.get("run_duration_seconds_sum") >= 2.0);
    assert!(!metrics.text().contains("confidential"));
    let json = daemon.ctl().json(["metrics"]);
    let again = Metrics::parse(json["metrics"].as_str().unwrap());
    assert_eq!(again.get("executions_submitted_total"), 5.0);
}

#[test]
fn pending_and_cancelled_executions_are_counted() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    in_runtime(async {
        let client = connect(&daemon).await;
        let running = client.execute(exec(["sleep", "1000"])).await.unwrap().id;
        wait_started(&client, running).await;
        let waiting = client.execute(exec(["true"])).await.unwrap().id;
        let metrics = Metrics::parse(&client.metrics().await.unwrap());
        assert_eq!(metrics.get(r#"executions{state="running"}"#), 1.0);
        assert_eq!(metrics.get(r#"executions{state="pending"}"#), 1.0);
        assert_eq!(metrics.get("launch_latency_seconds_count"), 1.0);

        client.cancel(waiting, CancelMode::Graceful).await.unwrap();
        client.cancel(running, CancelMode::Kill).await.unwrap();
        client.wait_for_completion(running).await.unwrap();
        let metrics = Metrics::parse(&client.metrics().await.unwrap());
        let cancelled = r#"executions_finished_total{status="cancelled",error="cancelled"}"#;
        assert_eq!(metrics.get(cancelled), 2.0);
        // The pending one was never launched.
        assert_eq!(metrics.get("queue_wait_seconds_count"), 1.0);
        assert_eq!(metrics.get("run_duration_seconds_count"), 1.0);
        let killed = r#"kills_total{by="escher",signal="SIGKILL"}"#;
        assert_eq!(metrics.get(killed), 1.0);
    });
}

#[test]
fn a_new_escherd_counts_from_0_and_counts_adopted_executions() {
    let mut first = Daemon::builder().leave_commands().start();
    let gate = first.home().fifo("gate");
    let script = format!("read line < {}", gate.name());
    let id = in_runtime(async {
        let client = connect(&first).await;
        let id = client.execute(shell(&script)).await.unwrap().id;
        wait_started(&client, id).await;
        id
    });
    let before = Metrics::fetch(&first);
    first.kill();
    let home = first.home().clone();
    let second = Daemon::builder().home(&home).leave_commands().start();
    let after = Metrics::fetch(&second);
    assert!(after.get("start_time_seconds") > before.get("start_time_seconds"));
    assert_eq!(before.get("executions_submitted_total"), 1.0);
    assert_eq!(after.get("executions_submitted_total"), 0.0);
    assert_eq!(after.get("executions_adopted_total"), 1.0);
    gate.write_line("go");
    second.ctl().wait(id, 0);
    let end = Metrics::fetch(&second);
    let completed = r#"executions_finished_total{status="completed",error=""}"#;
    assert_eq!(end.get(completed), 1.0);
    assert_eq!(end.get("run_duration_seconds_count"), 1.0);
    // The first escherd has launched it.
    assert_eq!(end.get("launch_latency_seconds_count"), 0.0);
}

#[test]
fn the_documentation_has_exactly_the_metrics_with_types_and_labels() {
    let metrics = Metrics::fetch(&daemon_with_history()).metrics();
    let rows = PAGE.lines().filter(|line| line.starts_with("| `escher_"));
    let page: BTreeSet<_> = rows
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let labels = cells[3].split(", ").filter(|label| !label.is_empty());
            let labels = labels.map(|label| label.trim_matches('`').to_owned());
            let name = cells[1].trim_matches('`').to_owned();
            (name, cells[2].to_owned(), labels.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(metrics, page);
}

/// Runs promtool with `input` to read. It must not find anything wrong.
fn run_promtool(arguments: &[&str], input: &str) {
    let mut promtool = Command::new(escher_tests::promtool())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, which ./check unpacks");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let ended = promtool.wait_with_output().unwrap();
    let remarks = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{remarks}\n{input}");
    assert_eq!(remarks, "", "{input}");
}

#[test]
fn promtool_accepts_names_and_format() {
    let daemon = daemon_with_history();
    let text = Metrics::fetch(&daemon).text().to_owned();
    // `check metrics` reads the older format, where a counter has the name of its sample.
    let counters = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        (kind == "counter").then_some(name)
    });
    let mut older = text.clone();
    for counter in counters {
        for word in ["HELP", "TYPE"] {
            let head = format!("# {word} {counter} ");
            older = older.replace(&head, &format!("# {word} {counter}_total "));
        }
    }
    run_promtool(&["check", "metrics"], &older);

    // `create-blocks-from openmetrics` requires timestamps.
    let dated: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with('#') {
                format!("{line}\n")
            } else {
                format!("{line} 1700000000\n")
            }
        })
        .collect();
    let file = daemon.home().file("metrics", dated.concat(), 0o644);
    let blocks = daemon.home().work().join("blocks");
    let (file, blocks) = (file.to_str().unwrap(), blocks.to_str().unwrap());
    let arguments = ["tsdb", "create-blocks-from", "openmetrics", file, blocks];
    run_promtool(&arguments, "");
}

/// Starts an escherd with a socket for metrics. Returns it and the path of the socket.
fn start_with_metrics_socket() -> (Daemon, PathBuf) {
    let home = Arc::new(Home::new());
    let path = home.runtime().join("metrics.sock");
    let config = format!("[daemon]\nmetrics_socket = {path:?}\n");
    let daemon = Daemon::builder().home(&home).config(&config).start();
    (daemon, path)
}

fn dial(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("escherd listens");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends a request. Returns head and body of the response.
fn fetch(path: &Path, request: &str) -> (String, String) {
    let mut stream = dial(path);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[test]
fn the_metrics_socket_answers_http_requests() {
    let (daemon, path) = start_with_metrics_socket();
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let _ = daemon.ctl().run(["run", "true"]).expect(0);
    let (head, body) = fetch(&path, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let lines: Vec<&str> = head.lines().collect();
    let length = format!("Content-Length: {}", body.len());
    assert_eq!(
        lines,
        [
            "HTTP/1.1 200 OK",
            "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8",
            &length,
            "Connection: close",
        ]
    );
    assert_eq!(Metrics::parse(&body).get("executions_submitted_total"), 1.0);

    let (head, body) = fetch(&path, "HEAD / HTTP/1.0\r\n\r\n");
    assert!(head.contains("200 OK") && head.contains("Content-Length: "));
    assert_eq!(body, "");
    let (head, _) = fetch(&path, "DELETE /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nAllow: GET, HEAD\r\n"));
    let long = format!("GET /{}", "x".repeat(8 * 1024 - 5));
    for request in ["\0escher\n", "hello\r\n\r\n", &long] {
        let (head, body) = fetch(&path, request);
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert_eq!(body, "");
    }
}

#[test]
fn sockets_of_systemd_are_told_apart_by_their_names() {
    let daemon = Daemon::builder().socket_activation_with_metrics().start();
    assert_eq!(
        daemon.ctl().run(["run", "echo", "hello"]).expect(0).out(),
        "hello\n"
    );
    let path = daemon.home().runtime().join("metrics.sock");
    let (head, body) = fetch(&path, "GET / HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "));
    assert_eq!(Metrics::parse(&body).get("executions_submitted_total"), 1.0);
}

/// Sends a request. Returns the answer, which is empty if escherd has no room for the connection.
fn try_fetch(path: &Path) -> String {
    let mut stream = dial(path);
    let mut answer = String::new();
    // escherd may have hung up already.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn silent_connections_of_a_user_keep_nobody_else_from_the_metrics() {
    let home = Arc::new(Home::new());
    let path = home.runtime().join("metrics.sock");
    let config = format!("[daemon]\nmetrics_socket = {path:?}\nsocket_mode = \"0666\"\n");
    let daemon = Daemon::builder().home(&home).config(&config).start();
    if nix::unistd::geteuid().is_root() {
        let silent = HeldConnections::open(&daemon, Some(61_001), &path, 100, &[]);
        for _ in 0..3 {
            let (head, body) = fetch(&path, "GET / HTTP/1.1\r\n\r\n");
            assert!(head.starts_with("HTTP/1.1 200 "));
            let _ = Metrics::parse(&body);
        }
        silent.close();
    } else {
        // More of one user are closed at once, and not left waiting.
        let silent: Vec<UnixStream> = (0..4).map(|_| dial(&path)).collect();
        assert_eq!(try_fetch(&path), "");
        drop(silent);
        while try_fetch(&path).is_empty() {}
    }
}

async fn scrape(path: &Path) -> Metrics {
    let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Metrics::parse(answer.split_once("\r\n\r\n").expect("a head").1)
}

#[test]
fn counters_never_decrease_while_many_commands_run() {
    const COMMANDS: usize = 200;
    let (daemon, path) = start_with_metrics_socket();
    in_runtime(async {
        let client = connect(&daemon).await;
        let runs = (0..COMMANDS).map(|index| {
            let client = &client;
            async move {
                let command = format!("echo {}", index % 10);
                let id = client.execute(shell(&command)).await.unwrap().id;
                client.wait_for_completion(id).await.unwrap();
            }
        });
        let scraping = async {
            let mut last = scrape(&path).await;
            let completed = r#"executions_finished_total{status="completed",error=""}"#;
            while last.get(completed) < COMMANDS as f64 {
                let next = scrape(&path).await;
                for (sample, value) in last.counters() {
                    let now = next.get(sample.trim_start_matches("escher_"));
                    assert!(now >= value, "{sample}: {value}, then {now}");
                }
                let executions = |state| next.get(&format!("executions{{state=\"{state}\"}}"));
                assert!(executions("pending") + executions("running") <= COMMANDS as f64);
                last = next;
            }
            last
        };
        let (_, last) = futures_util::future::join(join_all(runs), scraping).await;
        assert_eq!(last.get("executions_submitted_total"), COMMANDS as f64);
        assert_eq!(last.get("run_duration_seconds_count"), COMMANDS as f64);
        let bytes = last.get(r#"output_bytes_total{stream="stdout"}"#);
        assert_eq!(bytes, 2.0 * COMMANDS as f64);
    });
}
