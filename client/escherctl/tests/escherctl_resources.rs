//! Limits and pauses as escherctl takes and shows them.
#![allow(clippy::unwrap_used)]

mod support;

use escher_client::protocol::message::Submitted;
use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, ExecutionId, ExecutionRecord, ResourceLimits, Resources};
use escher_tests::fake_daemon::FakeDaemon;
use escher_tests::samples::record;
use support::ctl::{played, text};

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(512 << 20),
    cpu_quota: Some(150),
    tasks_max: Some(9),
};

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
    let ended = played(&FakeDaemon::start(), &words, async |mut peer| {
        let (id, request) = peer.request().await;
        let Request::Submit(submitted) = request else {
            panic!("{request:?}");
        };
        assert_eq!(submitted.limits, LIMITS);
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
async fn limits_are_shown_wherever_a_record_is() {
    let limited = ExecutionRecord {
        resources: Resources {
            limits: LIMITS,
            ..Resources::default()
        },
        ..record(1)
    };
    let object =
        r#""limits":{"memory_max":536870912,"cpu_quota":150,"tasks_max":9},"paused":false"#;
    for (words, shown) in [
        (
            &["inspect", "1"][..],
            "MemoryMax=512M CPUQuota=150% TasksMax=9",
        ),
        (&["inspect", "1", "--json"], object),
        (&["result", "1", "--json"], object),
        (&["ps", "--json"], object),
    ] {
        let ended = played(&FakeDaemon::start(), words, async |mut peer| {
            let (id, request) = peer.request().await;
            let record = Box::new(limited.clone());
            if matches!(request, Request::Status(_)) {
                peer.reply(id, Ok(Response::Execution(record))).await;
            } else {
                peer.item(id, Item::Execution(record)).await;
                peer.end(id, Ok(())).await;
            }
        })
        .await;
        assert!(text(&ended.stdout).contains(shown), "{ended:?}");
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
        let ended = played(&FakeDaemon::start(), words, async |mut peer| {
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
    let ended = played(&FakeDaemon::start(), &["pause", "1"], async |mut peer| {
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
