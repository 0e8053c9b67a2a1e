//! escherctl while escherd is away and after it: what it says, what it does, and how it ends.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Stdio;

use escher_client::protocol::handshake::HelloReply;
use escher_client::protocol::{Exit, Item, Leftovers, Outcome, OutputTotals, Usage};
use escher_client::protocol::{Request, RequestId, Response};
use escher_client::{
    ApiError, CancelMode, CancelOutcome, ErrorCode, ExecutionRecord, OutputStart, OutputStream,
    Status, Submitted,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item};
use escher_tests::samples::record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// escherctl, and what it says line by line.
struct Running {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(daemon: &FakeDaemon, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_escherctl"))
            .arg("--socket")
            .arg(daemon.path())
            .args(words)
            .env_remove("ESCHER_RECONNECT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, said }
    }

    async fn line(&mut self) -> String {
        self.said.next_line().await.unwrap().unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Its exit status, its standard output, and the rest of what it says.
    async fn end(mut self) -> (Option<i32>, String, Vec<String>) {
        let mut stdout = String::new();
        let mut reader = self.child.stdout.take().unwrap();
        reader.read_to_string(&mut stdout).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = self.said.next_line().await.unwrap() {
            lines.push(line);
        }
        let status = self.child.wait().await.unwrap();
        (status.code(), stdout, lines)
    }
}

const AWAY: &str = "escherctl: escherd is away; waiting for it, 1m00s at most";
const BACK: &str = "escherctl: escherd is back";

fn submission() -> Response {
    Response::Submitted(Submitted {
        id: record(1).id,
        number: 1,
        existing: false,
    })
}

async fn submit(peer: &mut ServerConnection) {
    let (id, request) = peer.request().await;
    assert!(matches!(request, Request::Submit(_)), "{request:?}");
    peer.reply(id, Ok(submission())).await;
}

/// The requests of one who watches an execution, in either order: following from where, and waiting.
async fn watched(peer: &mut ServerConnection) -> (RequestId, OutputStart, RequestId) {
    let (mut follow, mut wait) = (None, None);
    loop {
        match peer.next_request().await {
            (id, Request::ReadOutput(request)) => follow = Some((id, request.start)),
            (id, Request::Wait(_)) => wait = Some(id),
            other => panic!("{other:?}"),
        }
        if let (Some((follow, start)), Some(wait)) = (follow, wait) {
            return (follow, start, wait);
        }
    }
}

fn finished(status: Status, exit: Exit, error: Option<ErrorCode>, dropped: u64) -> Response {
    Response::Execution(Box::new(ExecutionRecord {
        status,
        outcome: Some(Outcome {
            exit,
            error: error.map(|code| ApiError::new(code, "why")),
            ended_by_signal: None,
            duration_us: 1,
            usage: Usage::default(),
            output: OutputTotals {
                dropped_bytes: dropped,
                ..OutputTotals::default()
            },
            leftovers: Leftovers::None,
        }),
        ..record(1)
    }))
}

fn exited(code: i32) -> Response {
    finished(
        Status::Failed,
        Exit::Code(code),
        Some(ErrorCode::EXIT_STATUS),
        0,
    )
}

#[tokio::test]
async fn run_rides_through() {
    let mut daemon = FakeDaemon::start();
    let mut run = Running::start(&daemon, &["run", "x"]);
    let mut peer = daemon.accept().await;
    submit(&mut peer).await;
    let (follow, _, _) = watched(&mut peer).await;
    peer.item(follow, output_item(OutputStream::Stdout, 0, 5))
        .await;
    daemon.stop();
    drop(peer);
    assert_eq!(run.line().await, AWAY);

    daemon.restart();
    let mut peer = daemon.accept().await;
    let (follow, start, wait) = watched(&mut peer).await;
    assert_eq!(start, OutputStart::Offset(5));
    assert_eq!(run.line().await, BACK);
    peer.item(follow, output_item(OutputStream::Stdout, 5, 2))
        .await;
    peer.end(follow, Ok(())).await;
    peer.reply(wait, Ok(exited(7))).await;
    assert_eq!(run.end().await, (Some(7), "xxxxxxx".to_owned(), vec![]));
}

#[tokio::test]
async fn nothing_is_said_where_nothing_is_to_be_said() {
    for words in [&["-q", "wait", "1"][..], &["--json", "wait", "1"]] {
        let mut daemon = FakeDaemon::start();
        let wait = Running::start(&daemon, words);
        let mut peer = daemon.accept().await;
        peer.request().await;
        daemon.stop();
        drop(peer);
        daemon.restart();
        let mut peer = daemon.accept().await;
        let (id, _) = peer.request().await;
        peer.reply(id, Ok(exited(3))).await;
        let (status, _, said) = wait.end().await;
        assert_eq!((status, said), (Some(3), vec![]));
    }
}

#[tokio::test]
async fn a_lost_acknowledgement_is_asked_for_again_with_the_same_key() {
    for words in [&["submit", "x"][..], &["submit", "--key", "k", "x"]] {
        let daemon = FakeDaemon::start();
        let submit = Running::start(&daemon, words);
        let mut peer = daemon.accept().await;
        let (_, first) = peer.request().await;
        drop(peer);
        let mut peer = daemon.accept().await;
        let (id, second) = peer.request().await;
        assert_eq!(first, second);
        match second {
            Request::Submit(request) => {
                let key = request.key.unwrap();
                assert!(words.contains(&&*key) || key.len() == 36, "{key}");
            }
            other => panic!("{other:?}"),
        }
        peer.reply(id, Ok(submission())).await;
        let (status, stdout, _) = submit.end().await;
        assert_eq!((status, stdout), (Some(0), format!("{}\n", record(1).id)));
    }
}

#[tokio::test]
async fn a_signal_while_escherd_is_away_cancels_once_it_is_back() {
    let mut daemon = FakeDaemon::start();
    let mut run = Running::start(&daemon, &["run", "x"]);
    let mut peer = daemon.accept().await;
    submit(&mut peer).await;
    watched(&mut peer).await;
    daemon.stop();
    drop(peer);
    assert_eq!(run.line().await, AWAY);
    run.signal(Signal::SIGINT);
    daemon.restart();
    let mut peer = daemon.accept().await;
    let (mut follow, mut wait, mut cancelled) = (None, None, false);
    while follow.is_none() || wait.is_none() || !cancelled {
        match peer.next_request().await {
            (id, Request::ReadOutput(_)) => follow = Some(id),
            (id, Request::Wait(_)) => wait = Some(id),
            (id, Request::Cancel { mode, .. }) => {
                assert_eq!(mode, CancelMode::Graceful);
                let ending = Response::Cancel(CancelOutcome::Ending);
                peer.reply(id, Ok(ending)).await;
                cancelled = true;
            }
            other => panic!("{other:?}"),
        }
    }
    let killed = Exit::Signal {
        signal: 15,
        core_dumped: false,
    };
    let end = finished(Status::Cancelled, killed, Some(ErrorCode::CANCELLED), 0);
    peer.end(follow.unwrap(), Ok(())).await;
    peer.reply(wait.unwrap(), Ok(end)).await;
    assert_eq!(run.end().await.0, Some(143));
}

#[tokio::test]
async fn the_third_signal_leaves_also_while_escherd_is_away() {
    let mut daemon = FakeDaemon::start();
    let mut run = Running::start(&daemon, &["run", "x"]);
    let mut peer = daemon.accept().await;
    submit(&mut peer).await;
    watched(&mut peer).await;
    daemon.stop();
    drop(peer);
    assert_eq!(run.line().await, AWAY);
    // Different ones: two of the same kind may count as one.
    run.signal(Signal::SIGINT);
    run.signal(Signal::SIGHUP);
    run.signal(Signal::SIGTERM);
    let (status, _, said) = run.end().await;
    assert!(matches!(status, Some(129 | 130 | 143)), "{status:?}");
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test]
async fn when_escherd_stays_away_the_command_is_said_to_go_on() {
    for (words, status) in [
        (&["run", "x"][..], 125),
        (&["wait", "1"], 125),
        (&["logs", "-f", "1"], 1),
        (&["events", "-f"], 1),
    ] {
        let mut daemon = FakeDaemon::start();
        let words = [&["--reconnect", "20ms"], words].concat();
        let ctl = Running::start(&daemon, &words);
        let mut peer = daemon.accept().await;
        if words.contains(&"run") {
            submit(&mut peer).await;
        }
        peer.request().await;
        daemon.stop();
        drop(peer);
        let (code, _, said) = ctl.end().await;
        let said = said.join("\n");
        assert_eq!(code, Some(status), "{words:?}");
        assert!(said.contains("escherd is unavailable"), "{said}");
        let goes_on = said.contains("the command goes on") && said.contains("`escherctl wait ");
        assert_eq!(goes_on, status == 125, "{said}");
    }
}

#[tokio::test]
async fn a_submission_in_doubt_says_how_to_find_out() {
    let mut daemon = FakeDaemon::start();
    let words = ["--reconnect=20ms", "submit", "--key", "k", "x"];
    let submit = Running::start(&daemon, &words);
    let mut peer = daemon.accept().await;
    peer.request().await;
    daemon.stop();
    drop(peer);
    let (status, _, said) = submit.end().await;
    assert_eq!(status, Some(1));
    assert!(said.join("\n").contains("`--key k`"), "{said:?}");
}

#[tokio::test]
async fn a_bad_patience_in_the_environment_is_a_misuse() {
    let daemon = FakeDaemon::start();
    for (verb, status) in [("wait", 125), ("info", 2)] {
        let mut escherctl = Command::new(env!("CARGO_BIN_EXE_escherctl"));
        escherctl.arg("--socket").arg(daemon.path()).arg(verb);
        if verb == "wait" {
            escherctl.arg("1");
        }
        let ended = escherctl.env("ESCHER_RECONNECT", "soon").output().await;
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(status));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains("ESCHER_RECONNECT: a time is"), "{said}");
    }
}

#[tokio::test]
async fn output_that_the_log_lacks_is_told_of() {
    let killed = Exit::Signal {
        signal: 15,
        core_dumped: false,
    };
    for (end, status, expected) in [
        (
            finished(Status::Completed, Exit::Code(0), None, 12),
            0,
            &["escherctl: the log lacks 12 bytes of the output: there was no room for more"][..],
        ),
        (
            finished(Status::Failed, killed, Some(ErrorCode::LOG_FULL), 0),
            125,
            &["escherctl: ended for a full log: why"],
        ),
    ] {
        for quiet in [false, true] {
            let daemon = FakeDaemon::start();
            let words = if quiet {
                &["-q", "run", "x"][..]
            } else {
                &["run", "x"]
            };
            let run = Running::start(&daemon, words);
            let mut peer = daemon.accept().await;
            submit(&mut peer).await;
            let (follow, _, wait) = watched(&mut peer).await;
            peer.end(follow, Ok(())).await;
            peer.reply(wait, Ok(end.clone())).await;
            let said = if quiet { &[] } else { expected };
            let (code, _, lines) = run.end().await;
            assert_eq!(
                (code, &lines[..]),
                (
                    Some(status),
                    &said
                        .iter()
                        .map(|line| (*line).to_owned())
                        .collect::<Vec<_>>()[..]
                )
            );
        }
    }
}

#[tokio::test]
async fn the_first_connection_is_not_waited_for() {
    let mut daemon = FakeDaemon::start();
    daemon.stop();
    let (status, _, said) = Running::start(&daemon, &["info"]).end().await;
    assert_eq!(status, Some(1));
    assert!(said[0].contains("no escherd listens at"), "{said:?}");
}

#[tokio::test]
async fn a_list_rides_through() {
    let daemon = FakeDaemon::start();
    let ps = Running::start(&daemon, &["ps", "-a", "--json"]);
    let (mut peer, _) = daemon.accept_hello().await;
    peer.send(&HelloReply::Welcome(daemon.welcome())).await;
    let (id, _) = peer.request().await;
    peer.item(id, Item::Execution(Box::new(record(3)))).await;
    drop(peer);
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    for number in [4, 3, 2] {
        let item = Item::Execution(Box::new(record(number)));
        peer.item(id, item).await;
    }
    peer.end(id, Ok(())).await;
    let (status, stdout, _) = ps.end().await;
    assert_eq!(status, Some(0));
    let numbers: Vec<&str> = stdout
        .lines()
        .map(|line| line.split("\"number\":").nth(1).unwrap())
        .map(|rest| rest.split(',').next().unwrap())
        .collect();
    assert_eq!(numbers, ["3", "2"]);
}
