//! Results: the record, the output, and what was omitted from it.
#![allow(clippy::unwrap_used)]

use escher_client::protocol::{Exit, Item, Leftovers, Outcome, OutputTotals, Request, Usage};
use escher_client::{
    Error, ExecutionRecord, GapReason, Omission, OutputGap, OutputStream, ProtocolViolation,
    ResultItem,
};
use escher_tests::fake_daemon::{FakeDaemon, output_item};
use escher_tests::samples::record;

/// A finished execution that has written this many bytes.
fn finished_item(stdout_bytes: u64, stderr_bytes: u64) -> Item {
    let output = OutputTotals {
        stdout_bytes,
        stderr_bytes,
        ..OutputTotals::default()
    };
    Item::Execution(Box::new(ExecutionRecord {
        outcome: Some(Outcome {
            exit: Exit::Code(0),
            error: None,
            ended_by_signal: None,
            duration_us: 1,
            usage: Usage::default(),
            output,
            leftovers: Leftovers::None,
        }),
        ..record(7)
    }))
}

fn omission(stream: OutputStream, bytes: u64, mark: &str) -> Omission {
    Omission {
        stream,
        bytes,
        mark: mark.into(),
    }
}

#[tokio::test]
async fn assembles_a_result() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (result, ()) = tokio::join!(client.get_result("7"), async {
        let (id, request) = server.request().await;
        assert_eq!(request, Request::Result("7".into()));
        server.item(id, Item::Execution(Box::new(record(7)))).await;
        server
            .item(id, output_item(OutputStream::Stdout, 0, 3))
            .await;
        server
            .item(id, output_item(OutputStream::Stdout, 3, 2))
            .await;
        server
            .item(id, output_item(OutputStream::Stderr, 5, 1))
            .await;
        server.end(id, Ok(())).await;
    });
    let result = result.unwrap();
    assert_eq!(result.record.number, 7);
    assert_eq!(
        (&result.stdout[..], &result.stderr[..]),
        (&b"xxxxx"[..], &b"x"[..])
    );
    assert!(!result.is_cut());
    assert_eq!(result.output_file(), None);
}

#[tokio::test]
async fn marks_omitted_output() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (in_the_middle, at_the_end) = (
        omission(OutputStream::Stdout, 7, "[7 left out]"),
        omission(OutputStream::Stderr, 100, ""),
    );
    let (result, ()) = tokio::join!(client.get_result("7"), async {
        let (id, _) = server.request().await;
        server.item(id, finished_item(12, 101)).await;
        server
            .item(id, output_item(OutputStream::Stdout, 0, 3))
            .await;
        server.item(id, Item::Omitted(in_the_middle.clone())).await;
        server
            .item(id, output_item(OutputStream::Stdout, 10, 2))
            .await;
        server
            .item(id, output_item(OutputStream::Stderr, 12, 1))
            .await;
        server.item(id, Item::Omitted(at_the_end.clone())).await;
        server.end(id, Ok(())).await;
    });
    let result = result.unwrap();
    assert_eq!(result.stdout, b"xxx[7 left out]xx");
    assert_eq!(result.stderr, b"x");
    assert_eq!(result.omissions, [in_the_middle, at_the_end]);
    assert_eq!(result.output_file().unwrap().to_str(), Some("/log"));
}

#[tokio::test]
async fn starts_again_after_a_lost_connection() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (result, ()) = tokio::join!(client.get_result("7"), async {
        let (id, request) = server.request().await;
        assert_eq!(request, Request::Result("7".into()));
        server.item(id, finished_item(5, 0)).await;
        server
            .item(id, output_item(OutputStream::Stdout, 0, 3))
            .await;
        drop(server);
        let mut server = daemon.accept().await;
        let (id, request) = server.request().await;
        assert_eq!(request, Request::Result("7".into()));
        server.item(id, finished_item(5, 0)).await;
        server
            .item(id, output_item(OutputStream::Stdout, 0, 5))
            .await;
        server.end(id, Ok(())).await;
    });
    assert_eq!(result.unwrap().stdout, b"xxxxx");
}

/// The second time the pieces have other lengths.
#[tokio::test]
async fn a_result_that_is_read_item_by_item_continues_after_a_lost_connection() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let left_out = omission(OutputStream::Stdout, 7, "[7 left out]");
    let (read, ()) = tokio::join!(
        async {
            let mut result = client.read_result("7").await.unwrap();
            assert_eq!(result.record().number, 7);
            let mut read = Vec::new();
            while let Some(item) = result.next().await.unwrap() {
                read.push(match item {
                    ResultItem::Output(chunk) => {
                        format!("{} at {}", chunk.data.len(), chunk.offset)
                    }
                    ResultItem::Omitted(omission) => omission.mark.to_string(),
                    ResultItem::Gap(gap) => format!("gap at {}", gap.offset),
                });
            }
            read
        },
        async {
            let (id, _) = server.request().await;
            server.item(id, finished_item(12, 0)).await;
            server
                .item(id, output_item(OutputStream::Stdout, 0, 3))
                .await;
            server.item(id, Item::Omitted(left_out.clone())).await;
            server
                .item(id, output_item(OutputStream::Stdout, 10, 1))
                .await;
            drop(server);
            // The record is lost, too.
            let mut server = daemon.accept().await;
            let _ = server.request().await;
            drop(server);
            let mut server = daemon.accept().await;
            let (id, _) = server.request().await;
            server.item(id, finished_item(12, 0)).await;
            server
                .item(id, output_item(OutputStream::Stdout, 0, 2))
                .await;
            server
                .item(id, output_item(OutputStream::Stdout, 2, 1))
                .await;
            server.item(id, Item::Omitted(left_out.clone())).await;
            server
                .item(id, output_item(OutputStream::Stdout, 10, 2))
                .await;
            let gap = OutputGap {
                offset: 12,
                bytes: Some(1),
                reason: GapReason::Dropped,
            };
            server.item(id, Item::Gap(gap)).await;
            server.end(id, Ok(())).await;
        }
    );
    assert_eq!(
        read,
        ["3 at 0", "[7 left out]", "1 at 10", "1 at 11", "gap at 12"]
    );
}

#[tokio::test]
async fn output_before_the_record_is_an_error() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (result, ()) = tokio::join!(client.get_result("7"), async {
        let (id, _) = server.request().await;
        server
            .item(id, output_item(OutputStream::Stdout, 0, 3))
            .await;
    });
    let wrong = matches!(
        result,
        Err(Error::Protocol(
            ProtocolViolation::UnexpectedResponse { .. }
        ))
    );
    assert!(wrong, "{result:?}");
}
