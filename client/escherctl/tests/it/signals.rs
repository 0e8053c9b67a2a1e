//! Signals to `run`: the first cancels the command, the second kills it, the third exits.

use escher_client::{CancelMode, OutputStream};
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::support::answers::{
    accept_run, attached_and_cancelled, expect_cancel, killed, submitted,
};
use crate::support::escherctl::{escherctl, send_signal, stderr, with_pipes};
use crate::support::{Daemon, output};

#[tokio::test]
async fn the_first_signal_cancels_the_second_kills() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let daemon = Daemon::start();
        let child = escherctl(&daemon, &["run", "x"]).spawn().unwrap();
        let mut peer = daemon.welcomed().await;
        let requests = accept_run(&mut peer).await;
        send_signal(&child, signal);
        expect_cancel(&mut peer, CancelMode::Graceful).await;
        send_signal(&child, signal);
        expect_cancel(&mut peer, CancelMode::Kill).await;
        // Output is passed on to the end.
        let piece = output(OutputStream::Stdout, 0, 4);
        peer.item(requests.output, piece).await;
        peer.end(requests.output, Ok(())).await;
        peer.reply(requests.end, Ok(killed(9))).await;
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(ended.stdout, b"xxxx");
        assert_eq!(ended.status.code(), Some(137));
        assert!(stderr(&ended).contains("cancelled (SIGKILL)"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_third_signal_exits_without_waiting() {
    let daemon = Daemon::start();
    let child = escherctl(&daemon, &["run", "x"]).spawn().unwrap();
    let mut peer = daemon.welcomed().await;
    accept_run(&mut peer).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Kill).await;
    send_signal(&child, Signal::SIGTERM);
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(143));
}

#[tokio::test]
async fn a_hangup_under_nohup_is_ignored() {
    let daemon = Daemon::start();
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_escherctl"))
        .arg("--socket")
        .arg(daemon.path())
        .args(["run", "x"]);
    with_pipes(&mut command);
    let child = command.spawn().unwrap();
    let mut peer = daemon.welcomed().await;
    accept_run(&mut peer).await;
    send_signal(&child, Signal::SIGHUP);
    send_signal(&child, Signal::SIGTERM);
    // SIGTERM counts as the first signal, not as the second.
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Kill).await;
}

#[tokio::test]
async fn a_signal_before_the_acknowledgement_cancels_the_command() {
    let daemon = Daemon::start();
    let child = escherctl(&daemon, &["-q", "run", "x"]).spawn().unwrap();
    let mut peer = daemon.welcomed().await;
    let (id, _) = peer.request().await;
    send_signal(&child, Signal::SIGINT);
    peer.reply(id, Ok(submitted())).await;
    let requests = attached_and_cancelled(&mut peer).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(killed(15))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(143));
    assert_eq!(stderr(&ended), "");
}

#[tokio::test]
async fn a_stalled_stdout_does_not_delay_signals() {
    let mut daemon = Daemon::start();
    daemon.limits.stream_window_bytes = 100_000_000;
    let mut child = escherctl(&daemon, &["run", "x"]).spawn().unwrap();
    let mut peer = daemon.welcomed().await;
    let requests = accept_run(&mut peer).await;
    let mut length = 0;
    for _ in 0..20 {
        let item = output(OutputStream::Stdout, length, 200_000);
        peer.item(requests.output, item).await;
        length += 200_000;
    }
    send_signal(&child, Signal::SIGINT);
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(killed(15))).await;
    // All output arrives once it is read.
    let mut stdout = child.stdout.take().unwrap();
    let mut read = Vec::new();
    stdout.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len() as u64, length);
    assert_eq!(child.wait().await.unwrap().code(), Some(143));
}
