//! What escherctl asks about settings and output that they hold back, and how it shows the answers.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Output;

use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, Omission, OutputStream, Reloaded, Setting, SettingValue};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item};
use escher_tests::samples::record;
use support::ctl::{played, text};

/// escherctl against a daemon that gives this answer to this one request.
async fn answered(words: &[&str], expected: Request, answer: Result<Response, ApiError>) -> Output {
    played(&FakeDaemon::start(), words, async |mut peer| {
        let (id, request) = peer.request().await;
        assert_eq!(request, expected);
        peer.reply(id, answer).await;
    })
    .await
}

fn settings() -> Response {
    let setting = |name: &str, value, origin: &str, live| Setting {
        name: name.into(),
        value,
        origin: origin.into(),
        live,
    };
    let file = "/etc/escher/escher.toml:3";
    Response::Settings(vec![
        setting(
            "execution.max_timeout_ms",
            SettingValue::Number(0),
            file,
            true,
        ),
        setting("daemon.socket", SettingValue::Unset, "default", false),
    ])
}

#[tokio::test]
async fn settings_are_shown_with_where_they_come_from() {
    let shown = "\
        SETTING                   VALUE  FROM\n\
        execution.max_timeout_ms  0      /etc/escher/escher.toml:3\n\
        daemon.socket             -      default\n";
    let objects = concat!(
        r#"{"name":"execution.max_timeout_ms","value":0,"origin":"/etc/escher/escher.toml:3","#,
        "\"live\":true}\n",
        r#"{"name":"daemon.socket","value":null,"origin":"default","live":false}"#,
        "\n"
    );
    for (words, expected) in [
        (&["config", "show"][..], shown),
        (&["config", "--json", "show"], objects),
    ] {
        let ended = answered(words, Request::Settings, Ok(settings())).await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(text(&ended.stdout), expected);
    }
}

#[tokio::test]
async fn a_reload_says_what_has_changed() {
    let some = Reloaded {
        applied: vec!["execution.max_timeout_ms".into()],
        need_restart: vec!["daemon.socket".into()],
    };
    let lines = "execution.max_timeout_ms: applied\n\
                 daemon.socket: waits for a restart of escherd\n";
    let object = "{\"applied\":[\"execution.max_timeout_ms\"],\
                  \"need_restart\":[\"daemon.socket\"]}\n";
    let none = Reloaded::default();
    for (words, reloaded, expected) in [
        (&["reload"][..], &some, lines),
        (&["reload", "--json"], &some, object),
        (&["reload"], &none, "nothing has changed\n"),
        (
            &["reload", "--json"],
            &none,
            "{\"applied\":[],\"need_restart\":[]}\n",
        ),
    ] {
        let answer = Ok(Response::Reloaded(reloaded.clone()));
        let ended = answered(words, Request::Reload, answer).await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(text(&ended.stdout), expected);
    }
}

#[tokio::test]
async fn the_faults_of_a_configuration_are_shown_as_escherd_tells_them() {
    let faults = "/c.toml:1: a = 1: no such key; /c.toml:2: b = -1: a number from 0";
    let answer = Err(ApiError::new(ErrorCode::INVALID_CONFIGURATION, faults));
    let ended = answered(&["reload"], Request::Reload, answer).await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(text(&ended.stdout), "");
    assert_eq!(
        text(&ended.stderr),
        format!("escherctl: {faults}\n  hint: what was in force before still is\n")
    );
}

/// Three bytes of output, and as many left out.
async fn cut_result(mut peer: ServerConnection) {
    let (id, request) = peer.request().await;
    assert_eq!(request, Request::Result("1".into()));
    peer.item(id, Item::Execution(Box::new(record(1)))).await;
    peer.item(id, output_item(OutputStream::Stdout, 0, 3)).await;
    let omission = Omission {
        stream: OutputStream::Stdout,
        bytes: 3,
        mark: "...".into(),
    };
    peer.item(id, Item::Omitted(omission)).await;
    peer.end(id, Ok(())).await;
}

#[tokio::test]
async fn a_result_that_was_cut_says_where_all_of_it_is() {
    let daemon = FakeDaemon::start();
    let ended = played(&daemon, &["result", "1"], cut_result).await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(text(&ended.stdout), "xxx...");
    let said = text(&ended.stderr);
    assert!(
        said.contains("the output was cut; `escherctl logs"),
        "{said}"
    );

    let ended = played(&daemon, &["result", "--json", "1"], cut_result).await;
    let object = text(&ended.stdout);
    assert!(object.contains(r#""stdout":"xxx...""#), "{object}");
    let all_of_it = r#""output_cut":true,"output_file":"/log""#;
    assert!(object.contains(all_of_it), "{object}");
    assert_eq!(text(&ended.stderr), "");
}

#[tokio::test]
async fn logs_that_are_held_back_say_for_how_long() {
    let held = ApiError::new(
        ErrorCode::OUTPUT_HELD,
        "the output of number 1 is served once it is finished",
    )
    .with_hint("`escherctl wait 1` waits for that");
    let daemon = FakeDaemon::start();
    let ended = played(&daemon, &["logs", "1"], async |mut peer| {
        let (id, request) = peer.next_request().await;
        assert!(matches!(request, Request::ReadOutput(_)), "{request:?}");
        peer.end(id, Err(held)).await;
    })
    .await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        text(&ended.stderr),
        "escherctl: the output of number 1 is served once it is finished\n  \
         hint: `escherctl wait 1` waits for that\n"
    );
}
