//! `result` and `logs`.

use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, Omission, OutputStream};

use crate::support::escherctl::{run_against, stderr, stdout};
use crate::support::{FakeDaemon, ServerConnection, output, record};

/// Answers with a result of three bytes, from which three more are omitted.
async fn answer_truncated(mut peer: ServerConnection) {
    let (id, request) = peer.request().await;
    assert_eq!(request, Request::Result("1".into()));
    peer.item(id, Item::Execution(Box::new(record(1)))).await;
    peer.item(id, output(OutputStream::Stdout, 0, 3)).await;
    let omission = Omission {
        stream: OutputStream::Stdout,
        bytes: 3,
        mark: "...".into(),
    };
    peer.item(id, Item::Omitted(omission)).await;
    peer.end(id, Ok(())).await;
}

#[tokio::test]
async fn a_truncated_result_hints_at_the_log() {
    let daemon = FakeDaemon::start();
    let ended = run_against(&daemon, &["result", "1"], answer_truncated).await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(stdout(&ended), "xxx...");
    let shown = stderr(&ended);
    assert!(
        shown.contains("output truncated; `escherctl logs"),
        "{shown}"
    );

    let ended = run_against(&daemon, &["result", "--json", "1"], answer_truncated).await;
    let object = stdout(&ended);
    assert!(object.contains(r#""stdout":"xxx...""#), "{object}");
    let log = r#""output_cut":true,"output_missing":[],"output_file":"/log""#;
    assert!(object.contains(log), "{object}");
    assert_eq!(stderr(&ended), "");
}

#[tokio::test]
async fn logs_of_a_running_command_may_be_withheld() {
    let held = ApiError::new(
        ErrorCode::OUTPUT_HELD,
        "the output of number 1 is served once it is finished",
    )
    .with_hint("`escherctl wait 1` waits for that");
    let daemon = FakeDaemon::start();
    let ended = run_against(&daemon, &["logs", "1"], async |mut peer| {
        let (id, request) = peer.request().await;
        assert!(matches!(request, Request::Status(_)), "{request:?}");
        let found = Response::Execution(Box::new(record(1)));
        peer.reply(id, Ok(found)).await;
        let (id, request) = peer.next_request().await;
        assert!(matches!(request, Request::ReadOutput(_)), "{request:?}");
        peer.end(id, Err(held)).await;
    })
    .await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        stderr(&ended),
        "escherctl: the output of number 1 is served once it is finished\n  \
         hint: `escherctl wait 1` waits for that\n"
    );
}
