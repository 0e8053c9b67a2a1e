//! `ps`, `rm` and `prune`: the requests they make, and how they show the answers.

use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, ListFilter, Removed, Selection, Timestamp};

use crate::support::escherctl::{run_against, stderr, stdout};
use crate::support::{Daemon, Peer, record};

/// Answers a request with executions of these numbers.
async fn answer_list(peer: &mut Peer, numbers: impl IntoIterator<Item = u8>) -> Request {
    let (id, request) = peer.request().await;
    for number in numbers {
        let item = Item::Execution(Box::new(record(number)));
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
        let daemon = Daemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            assert_eq!(answer_list(&mut peer, [1]).await, expected);
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(stderr(&ended), "");
    }
}

#[tokio::test]
async fn a_truncated_list_is_followed_by_a_notice() {
    for (arguments, has_notice) in [
        (&["ps", "--limit", "2"][..], true),
        (&["ps", "--limit", "3"], false),
        (&["-q", "ps", "--limit", "2"], false),
        (&["--json", "ps", "--limit", "2"], false),
    ] {
        let daemon = Daemon::start();
        let ended = run_against(&daemon, arguments, async |mut peer| {
            answer_list(&mut peer, [9, 8, 7]).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        let header = usize::from(!arguments.contains(&"--json"));
        let listed = if arguments.contains(&"3") { 3 } else { 2 };
        assert_eq!(stdout(&ended).lines().count(), listed + header);
        let shown = stderr(&ended);
        assert_eq!(
            shown.contains("truncated to the newest 2 executions"),
            has_notice,
            "{shown}"
        );
    }
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
        let daemon = Daemon::start();
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
        let daemon = Daemon::start();
        let arguments = [if json { &["--json"][..] } else { &[] }, &arguments].concat();
        let ended = run_against(&daemon, &arguments, async |mut peer| {
            let (id, request) = peer.request().await;
            let expected = Selection {
                filter: ListFilter {
                    labels: vec![("a".into(), "b".into())],
                    ..filter(true, 0)
                },
                since: None,
                until: Some(Timestamp::from_micros(1_772_323_200_000_000)),
            };
            assert_eq!(request, Request::Prune(expected));
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
