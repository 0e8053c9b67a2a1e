//! How failures are reported.

use escher_client::protocol::handshake::HelloReply;
use escher_client::protocol::{Item, Request};
use escher_client::{ApiError, CancelMode, ErrorCode};
use tokio::process::Command;

use crate::support::answers::{accept_run, expect_cancel};
use crate::support::escherctl::{closed_output, escherctl, run_against, stderr, stdout};
use crate::support::{FakeDaemon, record};

#[tokio::test]
async fn escherctl_says_hello_with_its_name() {
    let daemon = FakeDaemon::start();
    let child = escherctl(&daemon, &["info"]).spawn().unwrap();
    let (mut peer, hello) = daemon.accept_hello().await;
    assert!(hello.client.starts_with("escherctl "), "{hello:?}");
    peer.send(&HelloReply::Welcome(daemon.welcome())).await;
    drop((peer, child));
}

#[tokio::test]
async fn a_lost_connection_hints_that_the_command_keeps_running() {
    let arguments = ["--reconnect", "none", "run", "x"];
    let ended = run_against(&FakeDaemon::start(), &arguments, async |mut peer| {
        accept_run(&mut peer).await;
    })
    .await;
    assert_eq!(ended.status.code(), Some(125));
    assert!(stderr(&ended).contains("escherctl attach"), "{ended:?}");
}

#[tokio::test]
async fn a_refused_submission_is_escherctls_own_failure() {
    for (verb, status) in [("run", 125), ("submit", 1)] {
        let ended = run_against(&FakeDaemon::start(), &[verb, "x"], async |mut peer| {
            let (id, _) = peer.request().await;
            let error = ApiError::new(ErrorCode::TIMEOUT_TOO_LONG, "600000 ms is over 5000 ms");
            peer.reply(id, Err(error)).await;
        })
        .await;
        assert_eq!(ended.status.code(), Some(status));
        assert_eq!(stderr(&ended), "escherctl: 600000 ms is over 5000 ms\n");
    }
}

#[tokio::test]
async fn an_escherd_that_cannot_examine_itself_is_a_failure_of_doctor() {
    let ended = run_against(&FakeDaemon::start(), &["doctor"], async |mut peer| {
        let (id, request) = peer.request().await;
        assert_eq!(request, Request::Diagnose);
        let error = ApiError::new(ErrorCode::INTERNAL, "it has failed");
        peer.reply(id, Err(error)).await;
        let (id, request) = peer.request().await;
        assert_eq!(request, Request::Info);
        let error = ApiError::new(ErrorCode::INTERNAL, "it has failed");
        peer.reply(id, Err(error)).await;
    })
    .await;
    assert_eq!(ended.status.code(), Some(1));
    let shown = stdout(&ended);
    assert!(shown.contains("it has failed"), "{shown}");
    assert!(shown.contains("journalctl -u escherd"), "{shown}");
}

#[tokio::test]
async fn a_closed_stdout_is_not_reported() {
    let daemon = FakeDaemon::start();
    let child = escherctl(&daemon, &["ps", "--json"])
        .stdout(closed_output())
        .spawn()
        .unwrap();
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    peer.item(id, Item::Execution(Box::new(record(1)))).await;
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(stderr(&ended), "");
}

#[tokio::test]
async fn a_target_that_fails_does_not_stop_the_others() {
    let arguments = ["cancel", "a\x1b[31m", "2"];
    let ended = run_against(&FakeDaemon::start(), &arguments, async |mut peer| {
        let (id, _) = peer.request().await;
        let error = ApiError::new(ErrorCode::NOT_FOUND, "no execution a\x1b[31m");
        peer.reply(id, Err(error)).await;
        expect_cancel(&mut peer, CancelMode::Graceful).await;
    })
    .await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(stdout(&ended), "2: ending\n");
    assert!(
        stderr(&ended).contains(r"no execution a\x1b[31m"),
        "{ended:?}"
    );
    assert!(stderr(&ended).contains("escherctl ps -a"), "{ended:?}");
}

#[tokio::test]
async fn failures_are_json_if_requested() {
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

#[tokio::test]
async fn an_invalid_reconnect_timeout_in_the_environment_is_a_usage_error() {
    let daemon = FakeDaemon::start();
    for (arguments, status) in [(&["wait", "1"][..], 125), (&["info"], 2)] {
        let mut command = escherctl(&daemon, arguments);
        let ended = command.env("ESCHER_RECONNECT", "soon").output().await;
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(status));
        let shown = stderr(&ended);
        assert!(
            shown.contains("ESCHER_RECONNECT: expected seconds"),
            "{shown}"
        );
    }
}
