//! Resource limits and pauses.

use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, ExecutionRecord, ResourceLimits, Resources};

use crate::support::answers::submitted;
use crate::support::escherctl::{run_against, stderr, stdout};
use crate::support::{Daemon, record};

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(512 << 20),
    cpu_quota: Some(150),
    tasks_max: Some(9),
};

#[tokio::test]
async fn properties_become_limits() {
    let arguments = [
        "submit",
        "-p",
        "MemoryMax=512M",
        "-pCPUQuota=150%",
        "--property=TasksMax=9",
        "true",
    ];
    let ended = run_against(&Daemon::start(), &arguments, async |mut peer| {
        let (id, request) = peer.request().await;
        let Request::Submit(request) = request else {
            panic!("{request:?}");
        };
        assert_eq!(request.limits, LIMITS);
        peer.reply(id, Ok(submitted())).await;
    })
    .await;
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test]
async fn every_verb_that_shows_a_record_shows_its_limits() {
    let limited = ExecutionRecord {
        resources: Resources {
            limits: LIMITS,
            ..Resources::default()
        },
        ..record(1)
    };
    let text = "MemoryMax=512M CPUQuota=150% TasksMax=9";
    let object =
        r#""limits":{"memory_max":536870912,"cpu_quota":150,"tasks_max":9},"paused":false"#;
    for (arguments, shown) in [
        (&["inspect", "1"][..], text),
        (&["inspect", "1", "--json"], object),
        (&["result", "1", "--json"], object),
        (&["ps", "--json"], object),
    ] {
        let ended = run_against(&Daemon::start(), arguments, async |mut peer| {
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
        assert!(stdout(&ended).contains(shown), "{ended:?}");
    }
}

#[tokio::test]
async fn pause_and_resume_print_the_new_state() {
    for (arguments, request, shown) in [
        (
            &["pause", "1"][..],
            Request::Pause("1".into()),
            "1: paused\n",
        ),
        (
            &["resume", "1"],
            Request::Resume("1".into()),
            "1: resumed\n",
        ),
        (
            &["pause", "--json", "1"],
            Request::Pause("1".into()),
            "{\"target\":\"1\",\"paused\":true}\n",
        ),
    ] {
        let ended = run_against(&Daemon::start(), arguments, async |mut peer| {
            let (id, received) = peer.request().await;
            assert_eq!(received, request);
            peer.reply(id, Ok(Response::Done)).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stdout(&ended), shown);
    }
}

#[tokio::test]
async fn a_refused_pause_is_a_failure_with_a_hint() {
    let ended = run_against(&Daemon::start(), &["pause", "1"], async |mut peer| {
        let (id, _) = peer.request().await;
        let error = ApiError::new(ErrorCode::CANNOT_PAUSE, "no cgroup").with_hint("delegate one");
        peer.reply(id, Err(error)).await;
    })
    .await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        stderr(&ended),
        "escherctl: no cgroup\n  hint: delegate one\n"
    );
}
