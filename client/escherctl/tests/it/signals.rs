//! Signals to `run`: what of them reaches the command, and how `run` ends.

use escher_client::protocol::{Request, Response, SignalAnswer, SignalRecipients};
use escher_client::{ApiError, CancelMode, ErrorCode, OutputStream};
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::support::answers::{
    Attached, accept_run, attached_and_interrupted, died, exited, expect_cancel, expect_interrupt,
    expect_signal, killed, receive_signal, submitted,
};
use crate::support::escherctl::{
    escherctl, read_notice, send_signal, signal_of, stderr, with_pipes,
};
use crate::support::{FakeDaemon, ServerConnection, output};

/// Starts `run x`, whose command runs.
async fn running(daemon: &FakeDaemon) -> (Child, ServerConnection, Attached) {
    let child = escherctl(daemon, &["run", "x"]).spawn().unwrap();
    let mut peer = daemon.accept().await;
    let requests = accept_run(&mut peer).await;
    (child, peer, requests)
}

#[tokio::test]
async fn ctrl_c_interrupts_then_cancels_then_kills_then_leaves() {
    let daemon = FakeDaemon::start();
    let (child, mut peer, _) = running(&daemon).await;
    send_signal(&child, Signal::SIGINT);
    expect_interrupt(&mut peer).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Kill).await;
    send_signal(&child, Signal::SIGINT);
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(signal_of(&ended), Some(Signal::SIGINT as i32));
    let left = "escherctl: the command goes on; its number is 1\n";
    assert_eq!(stderr(&ended), left, "no more where stderr is no terminal");
}

#[tokio::test]
async fn output_after_a_kill_still_arrives() {
    let daemon = FakeDaemon::start();
    let (child, mut peer, requests) = running(&daemon).await;
    for _ in 0..3 {
        send_signal(&child, Signal::SIGTERM);
        expect_cancel(&mut peer, CancelMode::Graceful).await;
    }
    let piece = output(OutputStream::Stdout, 0, 4);
    peer.item(requests.output, piece).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(killed(9))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.stdout, b"xxxx");
    assert_eq!(ended.status.code(), Some(137));
    assert!(stderr(&ended).contains("cancelled (SIGKILL)"), "{ended:?}");
}

/// A shell ends its loop only if the program in it died of the signal.
#[tokio::test]
async fn run_dies_of_the_signal_of_which_the_command_died() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let daemon = FakeDaemon::start();
        let (child, mut peer, requests) = running(&daemon).await;
        send_signal(&child, signal);
        let (group, sent) = (SignalRecipients::ProcessGroup, SignalAnswer::Sent);
        expect_signal(&mut peer, signal, group, sent).await;
        peer.end(requests.output, Ok(())).await;
        peer.reply(requests.end, Ok(died(signal))).await;
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(signal_of(&ended), Some(signal as i32));
        let status = std::os::unix::process::ExitStatusExt::core_dumped(&ended.status);
        assert!(!status, "it leaves no core of its own");
    }
}

#[tokio::test]
async fn the_status_of_a_command_that_catches_the_signal_is_its_own() {
    let daemon = FakeDaemon::start();
    let (child, mut peer, requests) = running(&daemon).await;
    send_signal(&child, Signal::SIGINT);
    expect_interrupt(&mut peer).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(exited(7))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(7));
}

#[tokio::test]
async fn sigusr1_and_sigusr2_reach_the_main_process() {
    let daemon = FakeDaemon::start();
    let (child, mut peer, _) = running(&daemon).await;
    let mut serials = Vec::new();
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGUSR1] {
        send_signal(&child, signal);
        let (main, sent) = (SignalRecipients::MainProcess, SignalAnswer::Sent);
        serials.push(expect_signal(&mut peer, signal, main, sent).await);
    }
    let numbers: Vec<u64> = serials.iter().map(|serial| serial.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(
        serials
            .iter()
            .all(|serial| serial.client == serials[0].client)
    );
}

#[tokio::test]
async fn a_signal_that_escherd_refuses_is_reported() {
    let daemon = FakeDaemon::start();
    let (mut child, mut peer, requests) = running(&daemon).await;
    send_signal(&child, Signal::SIGUSR1);
    let (id, request) = peer.next_request().await;
    assert!(matches!(request, Request::Signal { .. }), "{request:?}");
    let error = ApiError::new(ErrorCode::TOO_MANY_REQUESTS, "too many signals wait");
    peer.reply(id, Err(error)).await;
    let expected = "escherctl: the signal has no effect: too many signals wait\n";
    assert_eq!(read_notice(&mut child).await, expected);
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(exited(7))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(7));
}

/// `run` in the background of a script, and under nohup(1).
#[tokio::test]
async fn an_ignored_signal_stays_ignored() {
    let daemon = FakeDaemon::start();
    let mut command = Command::new("env");
    command
        .args(["--ignore-signal=INT,TERM,HUP,QUIT", "--default-signal=USR1"])
        .arg(env!("CARGO_BIN_EXE_escherctl"))
        .arg("--socket")
        .arg(daemon.path())
        .args(["run", "x"]);
    with_pipes(&mut command);
    let child = command.spawn().unwrap();
    let mut peer = daemon.accept().await;
    let requests = accept_run(&mut peer).await;
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        send_signal(&child, signal);
    }
    send_signal(&child, Signal::SIGUSR1);
    let (main, sent) = (SignalRecipients::MainProcess, SignalAnswer::Sent);
    expect_signal(&mut peer, Signal::SIGUSR1, main, sent).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(exited(3))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(3));
}

#[tokio::test]
async fn a_signal_before_the_acknowledgement_reaches_the_command() {
    let daemon = FakeDaemon::start();
    let child = escherctl(&daemon, &["-q", "run", "x"]).spawn().unwrap();
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    send_signal(&child, Signal::SIGINT);
    peer.reply(id, Ok(submitted())).await;
    let requests = attached_and_interrupted(&mut peer).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(died(Signal::SIGINT))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(signal_of(&ended), Some(Signal::SIGINT as i32));
    assert_eq!(stderr(&ended), "");
}

/// The program cannot have handled it, so `run` dies of it, as a program that is not started yet.
#[tokio::test]
async fn run_dies_of_ctrl_c_if_no_program_could_get_it() {
    let daemon = FakeDaemon::start();
    let (child, mut peer, requests) = running(&daemon).await;
    send_signal(&child, Signal::SIGINT);
    let (group, cancelled) = (SignalRecipients::ProcessGroup, SignalAnswer::Cancelled);
    expect_signal(&mut peer, Signal::SIGINT, group, cancelled).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(killed(15))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(signal_of(&ended), Some(Signal::SIGINT as i32));
}

/// escherd answers `Wait` and `Signal` in any order. `run` exited with 143 if it saw the end first.
#[tokio::test]
async fn run_dies_of_ctrl_c_if_the_end_comes_before_the_answer_that_no_program_could_get_it() {
    let daemon = FakeDaemon::start();
    let (child, mut peer, requests) = running(&daemon).await;
    send_signal(&child, Signal::SIGINT);
    let group = SignalRecipients::ProcessGroup;
    let (signal, _) = receive_signal(&mut peer, Signal::SIGINT, group).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(killed(15))).await;
    let cancelled = Response::Signal(SignalAnswer::Cancelled);
    peer.reply(signal, Ok(cancelled)).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(signal_of(&ended), Some(Signal::SIGINT as i32));
}

/// The command is over, so there is nothing to wait for that would change how `run` ends.
#[tokio::test]
async fn an_answer_that_never_comes_does_not_hold_run_after_the_end() {
    let daemon = FakeDaemon::start();
    let (child, mut peer, requests) = running(&daemon).await;
    send_signal(&child, Signal::SIGINT);
    let group = SignalRecipients::ProcessGroup;
    receive_signal(&mut peer, Signal::SIGINT, group).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(exited(7))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(7));
}

#[tokio::test]
async fn a_stalled_stdout_does_not_delay_signals() {
    let mut daemon = FakeDaemon::start();
    daemon.limits.stream_window_bytes = 100_000_000;
    let (mut child, mut peer, requests) = running(&daemon).await;
    let mut length = 0;
    for _ in 0..20 {
        let item = output(OutputStream::Stdout, length, 200_000);
        peer.item(requests.output, item).await;
        length += 200_000;
    }
    send_signal(&child, Signal::SIGTERM);
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(killed(15))).await;
    // All output arrives once it is read.
    let mut stdout = child.stdout.take().unwrap();
    let mut read = Vec::new();
    stdout.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len() as u64, length);
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(signal_of(&ended), Some(Signal::SIGTERM as i32));
}
