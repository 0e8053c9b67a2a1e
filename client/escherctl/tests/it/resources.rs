//! Resource limits and pauses.

use escher_client::protocol::{Item, Request, Response};
use escher_client::{
    ApiError, CurrentUsage, ErrorCode, ExecutionRecord, ProcessLimits, ResourceLimits, Resources,
    Rlimit, RlimitResource, Status,
};

use crate::support::answers::submitted;
use crate::support::escherctl::{run_against, stderr, stdout};
use crate::support::{FakeDaemon, record};

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(512 << 20),
    memory_high: Some(400 << 20),
    cpu_quota: Some(150),
    cpu_weight: Some(20),
    io_weight: Some(30),
    tasks_max: Some(9),
};

fn process() -> ProcessLimits {
    ProcessLimits {
        nice: Some(10),
        oom_score_adjust: Some(500),
        rlimits: vec![Rlimit {
            resource: RlimitResource::OpenFiles,
            soft: 1024,
            hard: Rlimit::INFINITY,
        }],
    }
}

#[tokio::test]
async fn properties_become_limits() {
    let arguments = [
        "submit",
        "-p",
        "MemoryMax=512M",
        "-pCPUQuota=150%",
        "--property=TasksMax=9",
        "-pMemoryHigh=400M",
        "-pCPUWeight=20",
        "-pIOWeight=30",
        "-pNice=10",
        "-pOOMScoreAdjust=500",
        "-pLimitNOFILE=1024:infinity",
        "true",
    ];
    let ended = run_against(&FakeDaemon::start(), &arguments, async |mut peer| {
        let (id, request) = peer.request().await;
        let Request::Submit(request) = request else {
            panic!("{request:?}");
        };
        assert_eq!(request.limits, LIMITS);
        assert_eq!(request.process, process());
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
            process: process(),
            ..Resources::default()
        },
        ..record(1)
    };
    let text = "MemoryMax=512M MemoryHigh=400M CPUQuota=150% CPUWeight=20 IOWeight=30 TasksMax=9 \
                Nice=10 OOMScoreAdjust=500 LimitNOFILE=1024:infinity\n";
    let object = concat!(
        r#""limits":{"memory_max":536870912,"memory_high":419430400,"cpu_quota":150,"cpu_weight":20,"#,
        r#""io_weight":30,"tasks_max":9,"nice":10,"oom_score_adjust":500,"#,
        r#""rlimits":{"nofile":{"soft":1024,"hard":null}}},"paused":false"#,
    );
    for (arguments, shown) in [
        (&["inspect", "1"][..], text),
        (&["inspect", "1", "--json"], object),
        (&["result", "1", "--json"], object),
        (&["ps", "--json"], object),
    ] {
        let ended = run_against(&FakeDaemon::start(), arguments, async |mut peer| {
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

/// Measuring costs something, so nothing but `inspect` of what runs asks for it.
#[tokio::test]
async fn inspect_measures_a_running_command() {
    let running = ExecutionRecord {
        status: Status::Running,
        ..record(1)
    };
    let usage = CurrentUsage {
        memory_bytes: Some(1 << 20),
        tasks: Some(3),
        ..CurrentUsage::default()
    };
    let silent = ApiError::new(ErrorCode::OVERLOADED, "no answer");
    for (is_json, answer, shown) in [
        (false, Ok(Response::CurrentUsage(usage)), "tasks now:"),
        (false, Err(silent.clone()), "not known: no answer"),
        (
            true,
            Ok(Response::CurrentUsage(usage)),
            r#""usage_now":{"memory_bytes":1048576,"tasks":3,"#,
        ),
        (true, Err(silent), r#""usage_now":null"#),
    ] {
        let mut arguments = vec!["inspect", "1"];
        arguments.extend(is_json.then_some("--json"));
        let ended = run_against(&FakeDaemon::start(), &arguments, async |mut peer| {
            let (id, _) = peer.request().await;
            let record = Box::new(running.clone());
            peer.reply(id, Ok(Response::Execution(record))).await;
            let (id, request) = peer.request().await;
            assert_eq!(request, Request::MeasureUsage(running.id.into()));
            peer.reply(id, answer.clone()).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert!(stdout(&ended).contains(shown), "{ended:?}");
    }
}

#[tokio::test]
async fn inspect_shows_the_end_of_what_has_ended_before_it_was_measured() {
    let running = ExecutionRecord {
        status: Status::Running,
        ..record(1)
    };
    let ended = run_against(&FakeDaemon::start(), &["inspect", "1"], async |mut peer| {
        let (id, _) = peer.request().await;
        let first = Box::new(running.clone());
        peer.reply(id, Ok(Response::Execution(first))).await;
        let (id, _) = peer.request().await;
        let error = ApiError::new(ErrorCode::NOT_RUNNING, "it is over");
        peer.reply(id, Err(error)).await;
        let (id, request) = peer.request().await;
        assert_eq!(request, Request::Status(running.id.into()));
        let last = Box::new(ExecutionRecord {
            status: Status::Completed,
            ..running.clone()
        });
        peer.reply(id, Ok(Response::Execution(last))).await;
    })
    .await;
    assert!(stdout(&ended).contains("completed"), "{ended:?}");
    assert!(!stdout(&ended).contains("usage now"), "{ended:?}");
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
        let ended = run_against(&FakeDaemon::start(), arguments, async |mut peer| {
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
    let ended = run_against(&FakeDaemon::start(), &["pause", "1"], async |mut peer| {
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
