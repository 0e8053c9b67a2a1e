//! What escherctl asks of the history, and how it shows the answers.
#![allow(clippy::unwrap_used)]

mod support;

use escher_client::protocol::{Item, Request, Response};
use escher_client::{ApiError, ErrorCode, ListFilter, Removed, Selection, Timestamp};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection};
use escher_tests::samples::record;
use support::ctl::{played, text};

async fn list(peer: &mut ServerConnection, numbers: impl IntoIterator<Item = u64>) -> Request {
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
async fn the_filter_and_the_times_are_sent() {
    let moment = Timestamp::from_micros(1_772_323_200_000_000);
    let selection = |all, since, until| {
        Request::List(Selection {
            filter: filter(all, 101),
            since,
            until,
        })
    };
    let time = "2026-03-01T00:00:00Z";
    for (words, expected) in [
        (&["ps"][..], Request::List(filter(false, 101).into())),
        (&["ps", "--limit=0"], Request::List(filter(false, 0).into())),
        (&["ps", "-a"], selection(true, None, None)),
        (
            &["ps", "--since", time],
            selection(false, Some(moment), None),
        ),
        (
            &["ps", "-a", "--until", time],
            selection(true, None, Some(moment)),
        ),
    ] {
        let daemon = FakeDaemon::start();
        let ended = played(&daemon, words, async |mut peer| {
            assert_eq!(list(&mut peer, [1]).await, expected);
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(text(&ended.stderr), "");
    }
}

#[tokio::test]
async fn a_list_that_is_cut_says_so() {
    for (words, says) in [
        (&["ps", "--limit", "2"][..], true),
        (&["ps", "--limit", "3"], false),
        (&["-q", "ps", "--limit", "2"], false),
        (&["--json", "ps", "--limit", "2"], false),
    ] {
        let daemon = FakeDaemon::start();
        let ended = played(&daemon, words, async |mut peer| {
            list(&mut peer, [9, 8, 7]).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        let header = usize::from(!words.contains(&"--json"));
        let shown = if words.contains(&"3") { 3 } else { 2 };
        assert_eq!(text(&ended.stdout).lines().count(), shown + header);
        let said = text(&ended.stderr);
        assert_eq!(
            said.contains("only the newest 2 executions"),
            says,
            "{said}"
        );
    }
}

#[tokio::test]
async fn rm_prints_what_it_was_given() {
    let removed = Response::Removed(Removed {
        executions: 1,
        log_bytes: 7,
    });
    for (words, expected) in [
        (&["rm", "1", "2"][..], "1\n"),
        (
            &["rm", "--json", "1", "2"],
            "{\"target\":\"1\",\"executions\":1,\"log_bytes\":7}\n",
        ),
    ] {
        let daemon = FakeDaemon::start();
        let ended = played(&daemon, words, async |mut peer| {
            let (id, request) = peer.request().await;
            assert_eq!(request, Request::Remove("1".into()));
            peer.reply(id, Ok(removed.clone())).await;
            let (id, _) = peer.request().await;
            let running = ApiError::new(ErrorCode::NOT_FINISHED, "number 2 is running");
            peer.reply(id, Err(running)).await;
        })
        .await;
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(text(&ended.stdout), expected);
        let said = text(&ended.stderr);
        assert!(said.contains("number 2 is running"), "{said}");
        assert!(said.contains("escherctl cancel"), "{said}");
    }
}

#[tokio::test]
async fn prune_tells_how_much_is_gone() {
    let words = [
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
        let words = [if json { &["--json"][..] } else { &[] }, &words].concat();
        let ended = played(&daemon, &words, async |mut peer| {
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
        assert_eq!(text(&ended.stdout), expected);
    }
}
