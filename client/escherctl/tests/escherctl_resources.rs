//! Limits, pauses and figures as escherctl takes and shows them.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Output;

use escher_client::protocol::handshake::FEATURE_RESOURCES;
use escher_client::protocol::message::Submitted;
use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, ExecutionId, ResourceLimits, Resources};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection};
use escher_tests::samples::record;
use support::ctl::{played, text};

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(512 << 20),
    cpu_quota: Some(150),
    tasks_max: Some(9),
};

fn able() -> FakeDaemon {
    let mut daemon = FakeDaemon::start();
    daemon.features.push(FEATURE_RESOURCES.into());
    daemon
}

async fn resources(peer: &mut ServerConnection) {
    let (id, request) = peer.request().await;
    assert_eq!(request, Request::Resources(record(1).id.into()));
    let resources = Resources {
        limits: LIMITS,
        ..Resources::default()
    };
    peer.reply(id, Ok(Response::Resources(Box::new(resources))))
        .await;
}

#[tokio::test]
async fn properties_become_limits() {
    let words = [
        "submit",
        "-p",
        "MemoryMax=512M",
        "-pCPUQuota=150%",
        "--property=TasksMax=9",
        "true",
    ];
    let ended = played(&able(), &words, async |mut peer| {
        let (id, request) = peer.request().await;
        let Request::SubmitWithin(_, limits) = request else {
            panic!("{request:?}");
        };
        assert_eq!(limits, LIMITS);
        let submitted = Submitted {
            id: ExecutionId::from_bytes([1; 16]),
            number: 1,
            existing: false,
        };
        peer.reply(id, Ok(Response::Submitted(submitted))).await;
    })
    .await;
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test]
async fn an_older_escherd_is_not_asked_to_keep_to_limits() {
    for (verb, status) in [("run", 125), ("submit", 1)] {
        let words = [verb, "-p", "TasksMax=9", "true"];
        let ended = played(&FakeDaemon::start(), &words, async |mut peer| {
            assert_eq!(peer.frame().await, None);
        })
        .await;
        assert_eq!(ended.status.code(), Some(status));
        let said = text(&ended.stderr);
        assert!(
            said.contains("lacks the feature `resources`") && said.contains("a newer escherd"),
            "{said}"
        );
    }
}

/// `inspect`, or another verb, of an execution that is finished.
async fn inspected(daemon: &FakeDaemon, words: &[&str], has_resources: bool) -> Output {
    played(daemon, words, async |mut peer| {
        let (id, request) = peer.request().await;
        match request {
            Request::Status(_) => {
                let answer = Response::Execution(Box::new(record(1)));
                peer.reply(id, Ok(answer)).await;
            }
            Request::Collect(_) => {
                peer.item(id, Item::Execution(Box::new(record(1)))).await;
                peer.end(id, Ok(())).await;
            }
            other => panic!("{other:?}"),
        }
        if has_resources {
            resources(&mut peer).await;
        }
    })
    .await
}

#[tokio::test]
async fn limits_are_shown_where_escherd_knows_them() {
    let shown = "MemoryMax=512M CPUQuota=150% TasksMax=9";
    let object =
        r#""limits":{"memory_max":536870912,"cpu_quota":150,"tasks_max":9},"paused":false"#;
    let nothing = r#""limits":null,"paused":null"#;
    for (words, new, old) in [
        (&["inspect", "1"][..], shown, "status:"),
        (&["inspect", "1", "--json"], object, nothing),
        (&["result", "1", "--json"], object, nothing),
    ] {
        let ended = inspected(&able(), words, true).await;
        assert!(text(&ended.stdout).contains(new), "{ended:?}");
        let ended = inspected(&FakeDaemon::start(), words, false).await;
        let said = text(&ended.stdout);
        assert!(said.contains(old) && !said.contains("MemoryMax"), "{said}");
    }
}

#[tokio::test]
async fn pause_and_resume_say_what_has_become_of_each() {
    for (words, request, shown) in [
        (
            &["pause", "1"][..],
            Request::Pause("1".into()),
            "1: paused\n",
        ),
        (
            &["resume", "1"],
            Request::Resume("1".into()),
            "1: goes on\n",
        ),
        (
            &["pause", "--json", "1"],
            Request::Pause("1".into()),
            "{\"target\":\"1\",\"paused\":true}\n",
        ),
    ] {
        let ended = played(&able(), words, async |mut peer| {
            let (id, asked) = peer.request().await;
            assert_eq!(asked, request);
            peer.reply(id, Ok(Response::Done)).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(text(&ended.stdout), shown);
    }
}

#[tokio::test]
async fn a_pause_that_is_refused_is_a_failure_with_a_hint() {
    let ended = played(&able(), &["pause", "1"], async |mut peer| {
        let (id, _) = peer.request().await;
        let error = ApiError::new(ErrorCode::CANNOT_PAUSE, "no cgroup").with_hint("delegate one");
        peer.reply(id, Err(error)).await;
    })
    .await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        text(&ended.stderr),
        "escherctl: no cgroup\n  hint: delegate one\n"
    );
}
