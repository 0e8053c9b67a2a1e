//! escherctl against a daemon that is played by the test: what it asks for and when, what it writes
//! where, and how it ends.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};

use escher_client::protocol::handshake::HelloReply;
use escher_client::protocol::{
    ClientFrame, Exit, Item, Outcome, OutputTotals, Request, RequestId, Response, Usage,
};
use escher_client::{
    ApiError, CancelMode, CancelOutcome, ErrorCode, ExecutionRecord, OutputChunk, OutputStream,
    Status, Submitted,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item};
use escher_tests::samples::record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

fn spawn(daemon: &FakeDaemon, words: &[&str]) -> Child {
    spawn_onto(Stdio::piped(), daemon, words)
}

/// An output whose reader has left. Not a pipe: a process that is being started beside the test may
/// hold a copy of its other end for a moment.
fn unread() -> Stdio {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.shutdown(Shutdown::Both).unwrap();
    OwnedFd::from(theirs).into()
}

fn spawn_onto(stdout: Stdio, daemon: &FakeDaemon, words: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_escherctl"))
        .arg("--socket")
        .arg(daemon.path())
        .args(words)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn welcome(daemon: &FakeDaemon) -> ServerConnection {
    let (mut peer, hello) = daemon.accept_hello().await;
    assert!(hello.client.starts_with("escherctl "), "{hello:?}");
    peer.send(&HelloReply::Welcome(daemon.welcome())).await;
    peer
}

/// The requests of a `run` up to the point where it waits: the ids of following and waiting.
async fn submitted(peer: &mut ServerConnection) -> (RequestId, RequestId) {
    let (id, submit) = peer.request().await;
    assert!(matches!(submit, Request::Submit(_)), "{submit:?}");
    let submission = Submitted {
        id: record(1).id,
        number: 1,
        existing: false,
    };
    peer.reply(id, Ok(Response::Submitted(submission))).await;
    watched(peer).await
}

async fn watched(peer: &mut ServerConnection) -> (RequestId, RequestId) {
    let (follow, request) = peer.request().await;
    assert!(matches!(request, Request::ReadOutput(_)), "{request:?}");
    let (wait, request) = peer.request().await;
    assert!(matches!(request, Request::Wait(_)), "{request:?}");
    (follow, wait)
}

fn finished(status: Status, exit: Exit, ended_by_signal: Option<i32>) -> Response {
    let error = (status != Status::Completed)
        .then(|| ApiError::new(ErrorCode::EXIT_STATUS, "it did not go well"));
    Response::Execution(Box::new(ExecutionRecord {
        status,
        outcome: Some(Outcome {
            exit,
            error,
            ended_by_signal,
            duration_us: 1,
            usage: Usage::default(),
            output: OutputTotals::default(),
            leftovers: escher_client::protocol::Leftovers::None,
        }),
        ..record(1)
    }))
}

fn killed(signal: i32) -> Response {
    let exit = Exit::Signal {
        signal,
        core_dumped: false,
    };
    finished(Status::Cancelled, exit, Some(signal))
}

fn send_signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

async fn expect_cancel(peer: &mut ServerConnection, expected: CancelMode) {
    loop {
        match peer.frame().await.unwrap() {
            ClientFrame::Request {
                id,
                body: Request::Cancel { mode, .. },
            } => {
                assert_eq!(mode, expected);
                let outcome = Response::Cancel(CancelOutcome::Ending);
                return peer.reply(id, Ok(outcome)).await;
            }
            ClientFrame::Grant { .. } | ClientFrame::Abandon { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn run_passes_both_outputs_and_the_exit_status() {
    let daemon = FakeDaemon::start();
    let child = spawn(&daemon, &["run", "x"]);
    let (ended, ()) = tokio::join!(child.wait_with_output(), async {
        let mut peer = welcome(&daemon).await;
        let (follow, wait) = submitted(&mut peer).await;
        // The end is known before the output has come: it is not taken for all there is.
        let exit = finished(Status::Failed, Exit::Code(7), None);
        peer.reply(wait, Ok(exit)).await;
        for (stream, data) in [
            (OutputStream::Stdout, &b"out\xff\0"[..]),
            (OutputStream::Stderr, b"err\n"),
            (OutputStream::Stdout, b"no newline"),
        ] {
            let chunk = OutputChunk {
                stream,
                offset: 0,
                time_us: 0,
                data: data.into(),
            };
            peer.item(follow, Item::Output(chunk)).await;
        }
        peer.end(follow, Ok(())).await;
    });
    let ended = ended.unwrap();
    assert_eq!(ended.stdout, b"out\xff\0no newline");
    assert_eq!(ended.stderr, b"err\n");
    assert_eq!(ended.status.code(), Some(7));
}

#[tokio::test]
async fn the_first_signal_cancels_the_second_kills() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let daemon = FakeDaemon::start();
        let child = spawn(&daemon, &["run", "x"]);
        let mut peer = welcome(&daemon).await;
        let (follow, wait) = submitted(&mut peer).await;
        send_signal(&child, signal);
        expect_cancel(&mut peer, CancelMode::Graceful).await;
        send_signal(&child, signal);
        expect_cancel(&mut peer, CancelMode::Kill).await;
        // Output that comes in the meantime is still passed on.
        peer.item(follow, output_item(OutputStream::Stdout, 0, 4))
            .await;
        peer.end(follow, Ok(())).await;
        peer.reply(wait, Ok(killed(9))).await;
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(ended.stdout, b"xxxx");
        assert_eq!(ended.status.code(), Some(137));
        assert!(stderr(&ended).contains("cancelled (SIGKILL)"), "{ended:?}");
    }
}

#[tokio::test]
async fn under_nohup_the_end_of_the_terminal_changes_nothing() {
    let daemon = FakeDaemon::start();
    let child = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_escherctl"))
        .arg("--socket")
        .arg(daemon.path())
        .args(["run", "x"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut peer = welcome(&daemon).await;
    submitted(&mut peer).await;
    send_signal(&child, Signal::SIGHUP);
    send_signal(&child, Signal::SIGTERM);
    // The first, not the second.
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Kill).await;
}

#[tokio::test]
async fn a_third_signal_leaves() {
    let daemon = FakeDaemon::start();
    let child = spawn(&daemon, &["run", "x"]);
    let mut peer = welcome(&daemon).await;
    submitted(&mut peer).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Kill).await;
    send_signal(&child, Signal::SIGTERM);
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(143));
}

#[tokio::test]
async fn a_signal_before_the_submission_is_acknowledged_is_not_lost() {
    let daemon = FakeDaemon::start();
    let child = spawn(&daemon, &["-q", "run", "x"]);
    let mut peer = welcome(&daemon).await;
    let (id, _) = peer.request().await;
    send_signal(&child, Signal::SIGINT);
    let submission = Submitted {
        id: record(1).id,
        number: 1,
        existing: false,
    };
    peer.reply(id, Ok(Response::Submitted(submission))).await;
    let (mut follow, mut wait) = (None, None);
    loop {
        match peer.request().await {
            (id, Request::ReadOutput(_)) => follow = Some(id),
            (id, Request::Wait(_)) => wait = Some(id),
            (id, Request::Cancel { mode, .. }) => {
                assert_eq!(mode, CancelMode::Graceful);
                let outcome = Response::Cancel(CancelOutcome::Ending);
                peer.reply(id, Ok(outcome)).await;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    while follow.is_none() || wait.is_none() {
        match peer.request().await {
            (id, Request::ReadOutput(_)) => follow = Some(id),
            (id, Request::Wait(_)) => wait = Some(id),
            other => panic!("{other:?}"),
        }
    }
    peer.end(follow.unwrap(), Ok(())).await;
    peer.reply(wait.unwrap(), Ok(killed(15))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(143));
    assert_eq!(stderr(&ended), "");
}

#[tokio::test]
async fn a_closed_stdout_cancels_the_command() {
    let daemon = FakeDaemon::start();
    let child = spawn_onto(unread(), &daemon, &["run", "x"]);
    let mut peer = welcome(&daemon).await;
    let (follow, wait) = submitted(&mut peer).await;
    // One piece is enough: the command may never write again.
    peer.item(follow, output_item(OutputStream::Stdout, 0, 10))
        .await;
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    peer.reply(wait, Ok(killed(15))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(stderr(&ended), "");
}

#[tokio::test]
async fn a_stalled_stdout_does_not_keep_signals_from_being_heard() {
    let mut daemon = FakeDaemon::start();
    daemon.limits.stream_window_bytes = 100_000_000;
    let mut child = spawn(&daemon, &["run", "x"]);
    let mut peer = welcome(&daemon).await;
    let (follow, wait) = submitted(&mut peer).await;
    let mut length = 0;
    for _ in 0..20 {
        let item = output_item(OutputStream::Stdout, length, 200_000);
        peer.item(follow, item).await;
        length += 200_000;
    }
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    peer.end(follow, Ok(())).await;
    peer.reply(wait, Ok(killed(15))).await;
    // Everything comes once somebody reads.
    let mut stdout = child.stdout.take().unwrap();
    let mut read = Vec::new();
    stdout.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len() as u64, length);
    assert_eq!(child.wait().await.unwrap().code(), Some(143));
}

#[tokio::test]
async fn a_command_that_never_reads_its_input_does_not_hang_escherctl() {
    let daemon = FakeDaemon::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_escherctl"))
        .arg("--socket")
        .arg(daemon.path())
        .args(["run", "-i", "x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut input, &vec![b'x'; 10_000_000]).await
    });
    let mut peer = welcome(&daemon).await;
    let (id, _) = peer.request().await;
    let submission = Submitted {
        id: record(1).id,
        number: 1,
        existing: false,
    };
    peer.reply(id, Ok(Response::Submitted(submission))).await;
    let (mut follow, mut wait, mut pieces) = (None, None, 0);
    while follow.is_none() || wait.is_none() || pieces < 4 {
        match peer.request().await {
            (id, Request::ReadOutput(_)) => follow = Some(id),
            (id, Request::Wait(_)) => wait = Some(id),
            // Never acknowledged.
            (_, Request::WriteStdin { .. }) => pieces += 1,
            other => panic!("{other:?}"),
        }
    }
    peer.end(follow.unwrap(), Ok(())).await;
    let exit = finished(Status::Completed, Exit::Code(0), None);
    peer.reply(wait.unwrap(), Ok(exit)).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(feeding.await.unwrap().is_err());
}

#[tokio::test]
async fn a_lost_connection_says_that_the_command_goes_on() {
    let daemon = FakeDaemon::start();
    let child = spawn(&daemon, &["--reconnect", "none", "run", "x"]);
    let mut peer = welcome(&daemon).await;
    submitted(&mut peer).await;
    drop(peer);
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(125));
    assert!(stderr(&ended).contains("escherctl attach"), "{ended:?}");
}

#[tokio::test]
async fn a_refused_submission_is_escherctls_failure() {
    let daemon = FakeDaemon::start();
    for (words, status) in [(["run", "x"], 125), (["submit", "x"], 1)] {
        let child = spawn(&daemon, &words);
        let mut peer = welcome(&daemon).await;
        let (id, _) = peer.request().await;
        let error = ApiError::new(ErrorCode::TIMEOUT_TOO_LONG, "600000 ms is over 5000 ms");
        peer.reply(id, Err(error)).await;
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(ended.status.code(), Some(status));
        assert_eq!(stderr(&ended), "escherctl: 600000 ms is over 5000 ms\n");
    }
}

#[tokio::test]
async fn a_signal_to_attach_only_detaches() {
    let daemon = FakeDaemon::start();
    let child = spawn(&daemon, &["attach", "1"]);
    let mut peer = welcome(&daemon).await;
    let (id, _) = peer.request().await;
    peer.reply(id, Ok(escher_tests::fake_daemon::record_response(1)))
        .await;
    watched(&mut peer).await;
    send_signal(&child, Signal::SIGINT);
    while let Some(frame) = peer.frame().await {
        assert!(matches!(frame, ClientFrame::Abandon { .. }), "{frame:?}");
    }
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(130));
    assert!(stderr(&ended).contains("detached"), "{ended:?}");
}

#[tokio::test]
async fn a_list_whose_reader_has_left_ends_quietly() {
    let daemon = FakeDaemon::start();
    let child = spawn_onto(unread(), &daemon, &["ps", "--json"]);
    let mut peer = welcome(&daemon).await;
    let (id, _) = peer.request().await;
    peer.item(id, Item::Execution(Box::new(record(1)))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(stderr(&ended), "");
}

#[tokio::test]
async fn one_of_several_that_fails_does_not_keep_the_others_from_it() {
    let daemon = FakeDaemon::start();
    let child = spawn(&daemon, &["cancel", "a\x1b[31m", "2"]);
    let mut peer = welcome(&daemon).await;
    let (id, _) = peer.request().await;
    let error = ApiError::new(ErrorCode::NOT_FOUND, "no execution a\x1b[31m");
    peer.reply(id, Err(error)).await;
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stdout, b"2: ending\n");
    assert!(
        stderr(&ended).contains(r"no execution a\x1b[31m"),
        "{ended:?}"
    );
    assert!(stderr(&ended).contains("escherctl ps -a"), "{ended:?}");
}

#[tokio::test]
async fn failures_are_json_where_json_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_escherctl"))
        .args(["info", "--json", "--socket"])
        .arg(directory.path().join("none"))
        .output()
        .await
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stdout, b"");
    assert!(
        stderr(&ended).starts_with(r#"{"error":{"code":"no-daemon","#),
        "{ended:?}"
    );
}
