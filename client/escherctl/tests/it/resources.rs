//! Resource limits and pauses.

use std::process::Output;

use escher_client::protocol::handshake::FEATURE_RESOURCES;
use escher_client::protocol::message::Submitted;
use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, ExecutionId, ResourceLimits, Resources};

use crate::support::escherctl::{run_against, stderr, stdout};
use crate::support::{Daemon, Peer, record};

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(512 << 20),
    cpu_quota: Some(150),
    tasks_max: Some(9),
};

fn daemon_with_resources() -> Daemon {
    let mut daemon = Daemon::start();
    daemon.features.push(FEATURE_RESOURCES.into());
    daemon
}

async fn answer_resources(peer: &mut Peer) {
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
    let arguments = [
        "submit",
        "-p",
        "MemoryMax=512M",
        "-pCPUQuota=150%",
        "--property=TasksMax=9",
        "true",
    ];
    let ended = run_against(&daemon_with_resources(), &arguments, async |mut peer| {
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
async fn limits_are_not_sent_to_an_escherd_without_them() {
    for (verb, status) in [("run", 125), ("submit", 1)] {
        let arguments = [verb, "-p", "TasksMax=9", "true"];
        let ended = run_against(&Daemon::start(), &arguments, async |mut peer| {
            assert_eq!(peer.frame().await, None);
        })
        .await;
        assert_eq!(ended.status.code(), Some(status));
        let shown = stderr(&ended);
        assert!(
            shown.contains("lacks the feature `resources`")
                && shown.contains("upgrade and restart escherd"),
            "{shown}"
        );
    }
}

/// Runs `inspect` or `result` on a finished execution.
async fn inspect(daemon: &Daemon, arguments: &[&str], has_resources: bool) -> Output {
    run_against(daemon, arguments, async |mut peer| {
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
            answer_resources(&mut peer).await;
        }
    })
    .await
}

#[tokio::test]
async fn shows_limits_if_escherd_has_them() {
    let shown = "MemoryMax=512M CPUQuota=150% TasksMax=9";
    let object =
        r#""limits":{"memory_max":536870912,"cpu_quota":150,"tasks_max":9},"paused":false"#;
    let nothing = r#""limits":null,"paused":null"#;
    for (arguments, new, old) in [
        (&["inspect", "1"][..], shown, "status:"),
        (&["inspect", "1", "--json"], object, nothing),
        (&["result", "1", "--json"], object, nothing),
    ] {
        let ended = inspect(&daemon_with_resources(), arguments, true).await;
        assert!(stdout(&ended).contains(new), "{ended:?}");
        let ended = inspect(&Daemon::start(), arguments, false).await;
        let said = stdout(&ended);
        assert!(said.contains(old) && !said.contains("MemoryMax"), "{said}");
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
        let ended = run_against(&daemon_with_resources(), arguments, async |mut peer| {
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
    let ended = run_against(
        &daemon_with_resources(),
        &["pause", "1"],
        async |mut peer| {
            let (id, _) = peer.request().await;
            let error =
                ApiError::new(ErrorCode::CANNOT_PAUSE, "no cgroup").with_hint("delegate one");
            peer.reply(id, Err(error)).await;
        },
    )
    .await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        stderr(&ended),
        "escherctl: no cgroup\n  hint: delegate one\n"
    );
}
