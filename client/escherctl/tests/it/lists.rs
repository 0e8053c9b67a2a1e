//! `ps`, `rm` and `prune`: the requests they make, and how they show the answers.

use escher_client::protocol::{Item, Request, Response};
use escher_client::{
    ApiError, CancelAnswer, CancelMode, ErrorCode, ListFilter, Removed, Selection, SignalAnswer,
    Status, Timestamp,
};

use crate::support::escherctl::{run_against, stderr, stdout};
use crate::support::{FakeDaemon, ServerConnection, record};

/// Answers a request with executions of these numbers.
async fn answer_list(
    peer: &mut ServerConnection,
    numbers: impl IntoIterator<Item = u8>,
) -> Request {
    let (id, request) = peer.request().await;
    for number in numbers {
        let item = Item::Execution(Box::new(record(number.into())));
        peer.item(id, item).await;
    }
    peer.end(id, Ok(())).await;
    request
}

fn filter(all: bool, limit: u32) -> ListFilter {
    ListFilter {
        all,
        limit,
        ..ListFilter::default()
    }
}

#[tokio::test]
async fn options_become_a_selection() {
    let time = Timestamp::from_micros(1_772_323_200_000_000);
    let selection = |all, since, until| {
        Request::List(Selection {
            filter: filter(all, 101),
            since,
            until,
        })
    };
    let rfc3339 = "2026-03-01T00:00:00Z";
    for (arguments, expected) in [
        (&["ps"][..], Request::List(filter(false, 101).into())),
        (&["ps", "--limit=0"], Request::List(filter(false, 0).into())),
        (&["ps", "--limit=7"], Request::List(filter(false, 7).into())),
        (&["ps", "-n", "7"], Request::List(filter(true, 7).into())),
        (&["ps", "-l"], Request::List(filter(true, 1).into())),
        (&["ls"], Request::List(filter(false, 101).into())),
        (&["ps", "-a"], selection(true, None, None)),
        (
            &["ps", "--since", rfc3339],
            selection(false, Some(time), None),
        ),
        (
            &["ps", "-a", "--until", rfc3339],
            selection(true, None, Some(time)),
        ),
    ] {
        let daemon = FakeDaemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            assert_eq!(answer_list(&mut peer, [1]).await, expected);
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stderr(&ended), "");
    }
}

/// The notice about the limit disturbed scripts.
#[tokio::test]
async fn a_list_is_cut_without_a_notice_where_the_limit_was_chosen() {
    for arguments in [
        &["ps", "--limit", "2"][..],
        &["ps", "-n", "2"],
        &["--json", "ps", "--limit", "2"],
    ] {
        let daemon = FakeDaemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            answer_list(&mut peer, [9, 8, 7]).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        let header = usize::from(!arguments.contains(&"--json"));
        assert_eq!(stdout(&ended).lines().count(), 2 + header);
        assert_eq!(stderr(&ended), "");
    }
}

#[tokio::test]
async fn a_list_is_shown_as_ids_csv_or_json() {
    let id = |number: u64| record(number).id.to_string();
    for (arguments, expected) in [
        (&["ps", "-q"][..], format!("{}\n{}\n", id(2), id(1))),
        (
            &["ps", "-q", "--sort=number"],
            format!("{}\n{}\n", id(1), id(2)),
        ),
        (
            &["ps", "--format=csv", "--columns=number,id"],
            format!("number,id\n2,{}\n1,{}\n", id(2), id(1)),
        ),
        (
            &["ps", "--columns", "NUMBER", "--sort", "number"],
            "NUMBER\n1\n2\n".to_owned(),
        ),
    ] {
        let daemon = FakeDaemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            answer_list(&mut peer, [2, 1]).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stdout(&ended), expected);
    }
    let mut outputs = Vec::new();
    for arguments in [&["ps", "--json"][..], &["ps", "--format", "json"]] {
        let daemon = FakeDaemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            answer_list(&mut peer, [1]).await;
        })
        .await;
        outputs.push(stdout(&ended).to_owned());
    }
    assert!(outputs[0].starts_with('{') && outputs[0] == outputs[1]);
}

#[tokio::test]
async fn a_dry_run_of_prune_only_counts() {
    let daemon = FakeDaemon::start();
    let ended = run_against(&daemon, &["prune", "--dry-run"], async |mut peer| {
        let (id, request) = peer.request().await;
        let expected = Request::Prune {
            selection: filter(true, 0).into(),
            dry_run: true,
        };
        assert_eq!(request, expected);
        let removed = Removed {
            executions: 12,
            log_bytes: 1024,
        };
        peer.reply(id, Ok(Response::Removed(removed))).await;
    })
    .await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(
        stdout(&ended),
        "would remove 12 executions, 1.0 KiB of logs\n"
    );
}

/// Returns the conditions of a list for a verb with a filter.
fn filtered(all: bool, conditions: &[&str]) -> Request {
    let conditions = conditions.iter().map(|text| text.parse().unwrap());
    let filter = ListFilter {
        conditions: conditions.collect(),
        ..filter(all, 0)
    };
    Request::List(filter.into())
}

#[tokio::test]
async fn verbs_with_a_filter_act_on_each_execution_that_matches() {
    let cancel = |mode| Request::Cancel {
        target: "7".into(),
        mode,
    };
    let removed = Response::Removed(Removed::default());
    let ending = Response::Cancel(CancelAnswer::Ending);
    for (arguments, listed, acted, answer) in [
        (
            &["rm", "--filter", "name=a*"][..],
            filtered(true, &["name=a*", "status!=pending", "status!=running"]),
            Request::Remove("7".into()),
            removed,
        ),
        (
            &["cancel", "--filter", "name!=a"],
            filtered(false, &["name!=a"]),
            cancel(CancelMode::Graceful),
            ending.clone(),
        ),
        (
            &["cancel", "--now", "--filter", "name!=a"],
            filtered(false, &["name!=a"]),
            cancel(CancelMode::Kill),
            ending.clone(),
        ),
        (
            &["stop", "--signal", "INT", "--filter", "name!=a"],
            filtered(false, &["name!=a"]),
            cancel(CancelMode::Signal(2)),
            ending,
        ),
        (
            &["pause", "--filter", "user=bob"],
            filtered(false, &["user=bob", "status!=pending"]),
            Request::Pause("7".into()),
            Response::Done,
        ),
        (
            &["resume", "--filter", "user=bob"],
            filtered(false, &["user=bob", "status!=pending"]),
            Request::Resume("7".into()),
            Response::Done,
        ),
    ] {
        let daemon = FakeDaemon::start();
        let is_finished = arguments[0] == "rm";
        let ended = run_against(&daemon, arguments, async |mut peer| {
            let (id, request) = peer.request().await;
            assert_eq!(request, listed);
            for number in [9, 7] {
                let mut record = record(number);
                let is_skipped = number == 9;
                record.status = if is_finished == is_skipped {
                    Status::Running
                } else {
                    Status::Completed
                };
                peer.item(id, Item::Execution(Box::new(record))).await;
            }
            peer.end(id, Ok(())).await;
            let (id, request) = peer.request().await;
            assert_eq!(request, acted);
            peer.reply(id, Ok(answer)).await;
        })
        .await;
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
        assert!(stdout(&ended).starts_with('7'), "{ended:?}");
    }
}

#[tokio::test]
async fn kill_sends_sigterm_unless_an_option_names_another_signal() {
    for (arguments, expected) in [
        (&["kill", "7"][..], 15),
        (&["kill", "-9", "7"], 9),
        (&["kill", "7", "-HUP"], 1),
        (&["kill", "-s", "USR1", "7"], 10),
    ] {
        let daemon = FakeDaemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            let (id, request) = peer.request().await;
            let Request::Signal { signal, .. } = request else {
                panic!("{request:?}");
            };
            assert_eq!(signal, expected);
            peer.reply(id, Ok(Response::Signal(SignalAnswer::Sent)))
                .await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
    }
}

#[tokio::test]
async fn wait_any_ends_with_the_first_and_prints_it() {
    let daemon = FakeDaemon::start();
    let ended = run_against(&daemon, &["wait", "--any", "7", "8"], async |mut peer| {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let (id, request) = peer.request().await;
            ids.push((id, request));
        }
        let second = Request::Wait("8".into());
        let (id, _) = ids.iter().find(|(_, request)| *request == second).unwrap();
        let mut record = record(8);
        record.status = Status::Completed;
        peer.reply(*id, Ok(Response::Execution(Box::new(record))))
            .await;
    })
    .await;
    assert_eq!((ended.status.code(), &*stdout(&ended)), (Some(0), "8\n"));
}

/// 124 would say that the command has ended at its timeout.
#[tokio::test]
async fn wait_ends_with_125_when_its_own_timeout_is_over() {
    let daemon = FakeDaemon::start();
    let arguments = ["wait", "--timeout", "10ms", "7"];
    let ended = run_against(&daemon, &arguments, async |mut peer| {
        // The request may come or not: the time may be over before.
        while peer.frame().await.is_some() {}
    })
    .await;
    assert_eq!(ended.status.code(), Some(125));
    let shown = stderr(&ended);
    let expected = "execution 7 has not finished within 10ms";
    assert!(shown.contains(expected), "{shown}");
}

#[tokio::test]
async fn rm_prints_each_removed_target() {
    let removed = Response::Removed(Removed {
        executions: 1,
        log_bytes: 7,
    });
    for (arguments, expected) in [
        (&["rm", "1", "2"][..], "1\n"),
        (
            &["rm", "--json", "1", "2"],
            "{\"target\":\"1\",\"executions\":1,\"log_bytes\":7}\n",
        ),
    ] {
        let daemon = FakeDaemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            let (id, request) = peer.request().await;
            assert_eq!(request, Request::Remove("1".into()));
            peer.reply(id, Ok(removed.clone())).await;
            let (id, _) = peer.request().await;
            let running = ApiError::new(ErrorCode::NOT_FINISHED, "number 2 is running");
            peer.reply(id, Err(running)).await;
        })
        .await;
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(stdout(&ended), expected);
        let shown = stderr(&ended);
        assert!(shown.contains("number 2 is running"), "{shown}");
        assert!(shown.contains("escherctl cancel"), "{shown}");
    }
}

#[tokio::test]
async fn prune_shows_how_much_it_removed() {
    let arguments = [
        "prune",
        "--filter",
        "label.a=b",
        "--until",
        "2026-03-01T00:00:00Z",
    ];
    for (json, expected) in [
        (false, "removed 3 executions, 2.0 KiB of logs\n"),
        (true, "{\"executions\":3,\"log_bytes\":2048}\n"),
    ] {
        let daemon = FakeDaemon::start();
        let arguments = [if json { &["--json"][..] } else { &[] }, &arguments].concat();
        let ended = run_against(&daemon, &arguments, async |mut peer| {
            let (id, request) = peer.request().await;
            let expected = Selection {
                filter: ListFilter {
                    conditions: vec!["label.a=b".parse().unwrap()],
                    ..filter(true, 0)
                },
                since: None,
                until: Some(Timestamp::from_micros(1_772_323_200_000_000)),
            };
            let expected = Request::Prune {
                selection: expected,
                dry_run: false,
            };
            assert_eq!(request, expected);
            let removed = Removed {
                executions: 3,
                log_bytes: 2048,
            };
            peer.reply(id, Ok(Response::Removed(removed))).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stdout(&ended), expected);
    }
}
