//! `config show` and `reload`.

use std::process::Output;

use escher_client::protocol::{Request, Response};
use escher_client::{ApiError, ErrorCode, Reloaded, Setting, SettingValue};

use crate::support::FakeDaemon;
use crate::support::escherctl::{run_against, stderr, stdout};

/// Runs escherctl against a daemon that expects one request and answers it.
async fn run_with_answer(
    arguments: &[&str],
    expected: Request,
    answer: Result<Response, ApiError>,
) -> Output {
    run_against(&FakeDaemon::start(), arguments, async |mut peer| {
        let (id, request) = peer.request().await;
        assert_eq!(request, expected);
        peer.reply(id, answer).await;
    })
    .await
}

fn settings() -> Response {
    let setting = |name: &str, value, origin: &str, is_reloadable| Setting {
        name: name.into(),
        value,
        origin: origin.into(),
        is_reloadable,
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
async fn shows_settings_and_their_origin() {
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
    for (arguments, expected) in [
        (&["config", "show"][..], shown),
        (&["config", "--json", "show"], objects),
    ] {
        let ended = run_with_answer(arguments, Request::Settings, Ok(settings())).await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stdout(&ended), expected);
    }
}

#[tokio::test]
async fn a_reload_lists_what_has_changed() {
    let some = Reloaded {
        applied: vec!["execution.max_timeout_ms".into()],
        need_restart: vec!["daemon.socket".into()],
    };
    let lines = "execution.max_timeout_ms: applied\n\
                 daemon.socket: requires a restart of escherd\n";
    let object = "{\"applied\":[\"execution.max_timeout_ms\"],\
                  \"need_restart\":[\"daemon.socket\"]}\n";
    let none = Reloaded::default();
    for (arguments, reloaded, expected) in [
        (&["reload"][..], &some, lines),
        (&["reload", "--json"], &some, object),
        (&["reload"], &none, "no setting has changed\n"),
        (
            &["reload", "--json"],
            &none,
            "{\"applied\":[],\"need_restart\":[]}\n",
        ),
    ] {
        let answer = Ok(Response::Reloaded(reloaded.clone()));
        let ended = run_with_answer(arguments, Request::Reload, answer).await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stdout(&ended), expected);
    }
}

#[tokio::test]
async fn a_failed_reload_shows_escherds_errors() {
    let errors = "/c.toml:1: a = 1: no such key; /c.toml:2: b = -1: a number from 0";
    let answer = Err(ApiError::new(ErrorCode::INVALID_CONFIGURATION, errors));
    let ended = run_with_answer(&["reload"], Request::Reload, answer).await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(stdout(&ended), "");
    assert_eq!(
        stderr(&ended),
        format!("escherctl: {errors}\n  hint: the previous configuration remains in force\n")
    );
}
