//! `top` without a screen: what it asks for, and how much it shows.

use escher_client::protocol::{
    ClientFrame, ExecutionUsage, Item, Request, RequestId, ServerFrame, codec,
};
use escher_client::{Condition, CurrentUsage, ExecutionRecord, ListFilter, Property, Status};
use escher_tests::fake_daemon::STREAM_WINDOW;

use crate::support::escherctl::{run_against, stderr, stdout};
use crate::support::{FakeDaemon, ServerConnection, record};

/// The most running and the most pending executions that are shown.
const MAX_SHOWN: u32 = 1000;

/// Sends items as escherd does: while something is left of the window. Sends no more once the client abandons the
/// request.
async fn send_items(peer: &mut ServerConnection, id: RequestId, items: Vec<Item>) {
    let mut window_left = i64::from(STREAM_WINDOW);
    for item in items {
        while window_left <= 0 {
            match peer.frame().await.unwrap() {
                ClientFrame::Grant { id: granted, bytes } if granted == id => {
                    window_left += i64::from(bytes);
                }
                ClientFrame::Abandon { id: abandoned } if abandoned == id => return,
                // Late ones, of an answer that is over.
                ClientFrame::Grant { .. } | ClientFrame::Abandon { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let frame = ServerFrame::Item { id, item };
        window_left -= i64::try_from(codec::encode(&frame).unwrap().len()).unwrap();
        peer.send(&frame).await;
    }
    peer.end(id, Ok(())).await;
}

/// Answers the requests for what waits, what runs, and what that uses, with executions of these numbers.
async fn answer(peer: &mut ServerConnection, pending: &[u64], running: &[u64]) {
    for (status, numbers) in [(Status::Pending, pending), (Status::Running, running)] {
        let (id, request) = peer.next_request().await;
        let filter = ListFilter {
            conditions: vec![Condition::is(Property::Status(status))],
            limit: MAX_SHOWN + 1,
            ..ListFilter::default()
        };
        assert_eq!(request, Request::List(filter.into()));
        let record_of = |number: &u64| {
            Item::Execution(Box::new(ExecutionRecord {
                status,
                ..record(*number)
            }))
        };
        send_items(peer, id, numbers.iter().map(record_of).collect()).await;
    }
    let (id, request) = peer.next_request().await;
    assert_eq!(request, Request::MeasureRunning);
    let usage_of = |number: &u64| {
        Item::Usage(ExecutionUsage {
            id: record(*number).id,
            number: *number,
            usage: CurrentUsage {
                memory_bytes: Some(4096),
                ..CurrentUsage::default()
            },
        })
    };
    send_items(peer, id, running.iter().map(usage_of).collect()).await;
}

#[tokio::test]
async fn the_newest_thousand_of_each_are_shown_and_a_notice_says_if_there_are_more() {
    let below =
        |first: u64, count: u32| -> Vec<u64> { (first - u64::from(count)..first).rev().collect() };
    for (pending, running, shown) in [
        (MAX_SHOWN, 1, MAX_SHOWN + 1),
        (MAX_SHOWN + 1, 1, MAX_SHOWN + 1),
        (1, MAX_SHOWN, MAX_SHOWN + 1),
        (1, MAX_SHOWN + 1, MAX_SHOWN + 1),
    ] {
        let daemon = FakeDaemon::start();
        let ended = run_against(&daemon, &["top", "--once"], async |mut peer| {
            answer(&mut peer, &below(9000, pending), &below(5000, running)).await;
        })
        .await;
        assert!(ended.status.success(), "{ended:?}");
        let lines = stdout(&ended).lines().count();
        assert_eq!(lines, 1 + shown as usize, "{pending} {running}");
        let has_more = pending.max(running) > MAX_SHOWN;
        let notice = "escherctl: only the newest 1000 running and pending executions are shown\n";
        assert_eq!(stderr(&ended), if has_more { notice } else { "" });
    }
}

#[tokio::test]
async fn an_execution_that_starts_between_two_answers_is_shown_once_as_running() {
    let daemon = FakeDaemon::start();
    let ended = run_against(&daemon, &["top", "--json"], async |mut peer| {
        answer(&mut peer, &[3, 2], &[2, 1]).await;
    })
    .await;
    assert!(ended.status.success(), "{ended:?}");
    let objects: Vec<serde_json::Value> = stdout(&ended)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown: Vec<_> = objects
        .iter()
        .map(|object| {
            let memory = object["usage_now"]["memory_bytes"].as_u64();
            (object["number"].as_u64(), object["status"].as_str(), memory)
        })
        .collect();
    let expected = [
        (Some(3), Some("pending"), None),
        (Some(2), Some("running"), Some(4096)),
        (Some(1), Some("running"), Some(4096)),
    ];
    assert_eq!(shown, expected);
}
