//! `run` and `attach`: both outputs, input, exit status.

use std::process::Stdio;

use escher_client::protocol::{ClientFrame, Exit, Item, Request};
use escher_client::{
    ApiError, CancelMode, ErrorCode, GapReason, OutputChunk, OutputGap, OutputStream, Status,
};
use nix::sys::signal::Signal;

use crate::support::answers::{
    accept_run, attached, completed, exited, expect_cancel, finished, killed, submitted,
};
use crate::support::escherctl::{
    closed_output, escherctl, read_notice, run_against, send_signal, signal_of, stderr,
};
use crate::support::{FakeDaemon, execution, output};

#[tokio::test]
async fn run_passes_on_both_outputs_and_the_exit_status() {
    let ended = run_against(&FakeDaemon::start(), &["run", "x"], async |mut peer| {
        let requests = accept_run(&mut peer).await;
        // The end is known before the output has arrived, which must not be lost.
        peer.reply(requests.end, Ok(exited(7))).await;
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
            peer.item(requests.output, Item::Output(chunk)).await;
        }
        peer.end(requests.output, Ok(())).await;
    })
    .await;
    assert_eq!(ended.stdout, b"out\xff\0no newline");
    assert_eq!(ended.stderr, b"err\n");
    assert_eq!(ended.status.code(), Some(7));
}

#[tokio::test]
async fn a_closed_stdout_cancels_the_command() {
    let daemon = FakeDaemon::start();
    let child = escherctl(&daemon, &["run", "x"])
        .stdout(closed_output())
        .spawn()
        .unwrap();
    let mut peer = daemon.accept().await;
    let requests = accept_run(&mut peer).await;
    // One piece is enough: the command may never write again.
    let piece = output(OutputStream::Stdout, 0, 10);
    peer.item(requests.output, piece).await;
    expect_cancel(&mut peer, CancelMode::Graceful).await;
    peer.reply(requests.end, Ok(killed(15))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(stderr(&ended), "");
}

#[tokio::test]
async fn a_refused_cancel_is_reported() {
    let daemon = FakeDaemon::start();
    let child = escherctl(&daemon, &["run", "x"])
        .stdout(closed_output())
        .spawn()
        .unwrap();
    let mut peer = daemon.accept().await;
    let requests = accept_run(&mut peer).await;
    peer.item(requests.output, output(OutputStream::Stdout, 0, 10))
        .await;
    let (id, request) = peer.next_request().await;
    assert!(matches!(request, Request::Cancel { .. }), "{request:?}");
    let error = ApiError::new(ErrorCode::STORE_UNAVAILABLE, "the disk is full");
    peer.reply(id, Err(error)).await;
    peer.reply(requests.end, Ok(completed())).await;
    let ended = child.wait_with_output().await.unwrap();
    let expected = "escherctl: cannot cancel the command: the disk is full\n";
    assert_eq!(stderr(&ended), expected);
}

/// Only a closed pipe cancels the command.
#[tokio::test]
async fn a_full_disk_behind_stdout_leaves_the_command() {
    let daemon = FakeDaemon::start();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let child = escherctl(&daemon, &["run", "x"])
        .stdout(full.unwrap())
        .spawn()
        .unwrap();
    let mut peer = daemon.accept().await;
    let requests = accept_run(&mut peer).await;
    let piece = output(OutputStream::Stdout, 0, 10);
    peer.item(requests.output, piece).await;
    while let Some(frame) = peer.frame().await {
        assert!(!matches!(frame, ClientFrame::Request { .. }), "{frame:?}");
    }
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(125));
    assert_eq!(
        stderr(&ended),
        "escherctl: the command goes on; its number is 1\n\
         escherctl: cannot write the output: No space left on device (os error 28)\n"
    );
}

#[tokio::test]
async fn an_input_that_escherd_does_not_take_is_reported() {
    let daemon = FakeDaemon::start();
    let mut child = escherctl(&daemon, &["run", "-i", "x"]).spawn().unwrap();
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    peer.reply(id, Ok(submitted())).await;
    let (mut follow, mut wait, mut hold) = (None, None, None);
    while follow.is_none() || wait.is_none() || hold.is_none() {
        match peer.next_request().await {
            (id, Request::ReadOutput(_)) => follow = Some(id),
            (id, Request::Wait(_)) => wait = Some(id),
            (id, Request::HoldStdin(_)) => hold = Some(id),
            other => panic!("{other:?}"),
        }
    }
    let error = ApiError::new(ErrorCode::INTERNAL, "the store is damaged");
    peer.end(hold.unwrap(), Err(error)).await;
    let expected = "escherctl: no more input is passed on: the store is damaged\n";
    assert_eq!(read_notice(&mut child).await, expected);
    peer.end(follow.unwrap(), Ok(())).await;
    peer.reply(wait.unwrap(), Ok(completed())).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
}

#[tokio::test]
async fn run_exits_though_the_command_never_reads_its_input() {
    let daemon = FakeDaemon::start();
    let mut child = escherctl(&daemon, &["run", "-i", "x"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut input, &vec![b'x'; 10_000_000]).await
    });
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    peer.reply(id, Ok(submitted())).await;
    let (mut follow, mut wait, mut pieces) = (None, None, 0);
    while follow.is_none() || wait.is_none() || pieces < 4 {
        match peer.request().await {
            (id, Request::ReadOutput(_)) => follow = Some(id),
            (id, Request::Wait(_)) => wait = Some(id),
            (id, Request::HoldStdin(_)) => peer.item(id, Item::StdinHeld { offset: 0 }).await,
            // Never acknowledged.
            (_, Request::WriteStdin { .. }) => pieces += 1,
            other => panic!("{other:?}"),
        }
    }
    peer.end(follow.unwrap(), Ok(())).await;
    peer.reply(wait.unwrap(), Ok(completed())).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(feeding.await.unwrap().is_err());
}

#[tokio::test]
async fn run_reports_what_the_log_lacks() {
    let killed = Exit::Signal {
        signal: 15,
        core_dumped: false,
    };
    let missing = |bytes, reason| OutputGap {
        offset: 0,
        bytes,
        reason,
    };
    let completed = || finished(Status::Completed, Exit::Code(0), None, None, 12);
    for (end, gap, status, notice) in [
        (
            completed(),
            Some(missing(Some(12), GapReason::Dropped)),
            125,
            "escherctl: 12 bytes of the output are missing here: the log has reached max_log_bytes or its user's share (users.log_share), or could not be written\n\
             escherctl: the output is incomplete, so the exit status is 125; that of the command would be 0\n",
        ),
        (
            completed(),
            Some(missing(Some(1), GapReason::Forgotten)),
            125,
            "escherctl: 1 byte of the output is missing here: the log has reached max_log_bytes or its user's share (users.log_share), and newer output has taken its place\n\
             escherctl: the output is incomplete, so the exit status is 125; that of the command would be 0\n",
        ),
        (
            finished(Status::Failed, killed, Some(ErrorCode::LOG_FULL), None, 0),
            None,
            125,
            "escherctl: log full\n",
        ),
    ] {
        for (arguments, expected) in [(&["run", "x"][..], notice), (&["-q", "run", "x"], "")] {
            let ended = run_against(&FakeDaemon::start(), arguments, async |mut peer| {
                let requests = accept_run(&mut peer).await;
                if let Some(gap) = gap {
                    peer.item(requests.output, Item::Gap(gap)).await;
                }
                peer.end(requests.output, Ok(())).await;
                peer.reply(requests.end, Ok(end.clone())).await;
            })
            .await;
            assert_eq!(ended.status.code(), Some(status));
            assert_eq!(stderr(&ended), expected);
        }
    }
}

#[tokio::test]
async fn a_signal_to_attach_only_detaches() {
    let daemon = FakeDaemon::start();
    let child = escherctl(&daemon, &["attach", "1"]).spawn().unwrap();
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    peer.reply(id, Ok(execution(1))).await;
    attached(&mut peer).await;
    send_signal(&child, Signal::SIGINT);
    while let Some(frame) = peer.frame().await {
        assert!(matches!(frame, ClientFrame::Abandon { .. }), "{frame:?}");
    }
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(signal_of(&ended), Some(2));
    assert!(stderr(&ended).contains("detached"), "{ended:?}");
}
