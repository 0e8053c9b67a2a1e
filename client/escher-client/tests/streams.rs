//! Streams: order, flow control, and abandoned requests.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;

use escher_client::protocol::{ClientFrame, RequestId};
use escher_client::{
    ApiError, Error, ErrorCode, ListFilter, OutputRange, OutputStream, ProtocolViolation,
};
use escher_tests::fake_daemon::{
    FakeDaemon, STREAM_WINDOW, ServerConnection, output_item, record_response,
};
use futures_core::Stream;

const PIECE: usize = 500;

/// Sends `pieces` of output as escherd does: while something is left of the window.
async fn send_output(
    server: &mut ServerConnection,
    id: RequestId,
    pieces: u64,
    mut window_left: i64,
) {
    for number in 0..pieces {
        while window_left <= 0 {
            match server.frame().await {
                Some(ClientFrame::Grant { id: granted, bytes }) => {
                    assert_eq!(granted, id);
                    window_left += i64::from(bytes);
                }
                other => panic!("not a grant: {other:?}"),
            }
        }
        let item = output_item(OutputStream::Stdout, number * PIECE as u64, PIECE);
        let encoded =
            escher_client::protocol::codec::encode(&escher_client::protocol::ServerFrame::Item {
                id,
                item: item.clone(),
            })
            .unwrap();
        window_left -= i64::try_from(encoded.len()).unwrap();
        server.item(id, item).await;
    }
    server.end(id, Ok(())).await;
}

#[tokio::test]
async fn output_is_in_order_through_a_small_window() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut follow = client.follow("1", OutputRange::default()).await.unwrap();
    let (id, _) = server.request().await;
    let ((), ()) = tokio::join!(
        send_output(&mut server, id, 500, STREAM_WINDOW.into()),
        async {
            let mut expected = 0;
            while let Some(chunk) = follow.next().await {
                let chunk = chunk.unwrap().into_chunk().unwrap();
                assert_eq!(chunk.offset, expected);
                expected += chunk.data.len() as u64;
            }
            assert_eq!(expected, 500 * PIECE as u64);
        }
    );
}

#[tokio::test]
async fn unread_stream_does_not_block_other_requests() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut stalled = client.read_logs("1", OutputRange::default()).await.unwrap();
    let (id, _) = server.request().await;
    // Use up the window.
    let pieces = u64::from(STREAM_WINDOW) / PIECE as u64;
    for number in 0..pieces {
        let item = output_item(OutputStream::Stdout, number * PIECE as u64, PIECE);
        server.item(id, item).await;
    }
    for number in 0..20 {
        let (answer, ()) = tokio::join!(client.get_status("2"), async {
            // The client grants nothing: the next frame is the request.
            let (id, _) = server.request().await;
            server.reply(id, Ok(record_response(number))).await;
        });
        assert_eq!(answer.unwrap().number, number);
    }
    server.end(id, Ok(())).await;
    let mut bytes = 0;
    while let Some(chunk) = stalled.next().await {
        bytes += chunk.unwrap().into_chunk().unwrap().data.len() as u64;
    }
    assert_eq!(bytes, pieces * PIECE as u64);
}

#[tokio::test]
async fn exceeding_the_window_ends_the_connection() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut stalled = client.read_logs("1", OutputRange::default()).await.unwrap();
    let (id, _) = server.request().await;
    for number in 0..20 {
        server
            .item(id, output_item(OutputStream::Stdout, number, PIECE))
            .await;
    }
    let (waited, ()) = tokio::join!(client.wait_for_completion("2"), async {});
    let exceeded = matches!(
        waited,
        Err(Error::Protocol(ProtocolViolation::WindowExceeded { .. }))
    );
    assert!(exceeded, "{waited:?}");
    let mut last = None;
    while let Some(chunk) = stalled.next().await {
        last = Some(chunk);
    }
    assert!(matches!(last, Some(Err(Error::Protocol(_)))), "{last:?}");
}

#[tokio::test]
async fn dropping_a_stream_abandons_its_request() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut follow = client.follow("1", OutputRange::default()).await.unwrap();
    let (id, _) = server.request().await;
    server
        .item(id, output_item(OutputStream::Stdout, 0, 10))
        .await;
    follow.next().await.unwrap().unwrap();
    drop(follow);
    assert_eq!(server.frame().await, Some(ClientFrame::Abandon { id }));
    // Items sent before that are ignored, even beyond the window.
    for number in 0..20 {
        server
            .item(id, output_item(OutputStream::Stdout, number, PIECE))
            .await;
    }
    server.end(id, Ok(())).await;
    let (answer, ()) = tokio::join!(client.get_status("2"), async {
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(2))).await;
    });
    assert_eq!(answer.unwrap().number, 2);
}

#[tokio::test]
async fn dropping_an_ended_stream_sends_nothing() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut list = client.list_executions(ListFilter::default()).await.unwrap();
    let (id, _) = server.request().await;
    server.end(id, Ok(())).await;
    assert!(list.next().await.is_none());
    assert!(list.next().await.is_none());
    drop(list);
    let (answer, ()) = tokio::join!(client.get_status("2"), async {
        // The next frame is the request.
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(2))).await;
    });
    answer.unwrap();
}

#[tokio::test]
async fn next_is_cancel_safe() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut follow = client.follow("1", OutputRange::default()).await.unwrap();
    let (id, _) = server.request().await;
    let ((), ()) = tokio::join!(
        send_output(&mut server, id, 200, STREAM_WINDOW.into()),
        async {
            let mut expected = 0;
            loop {
                // Every other call is dropped after one poll.
                let chunk = tokio::select! {
                    biased;
                    () = tokio::task::yield_now() => continue,
                    chunk = follow.next() => chunk,
                };
                let Some(chunk) = chunk else { break };
                let chunk = chunk.unwrap().into_chunk().unwrap();
                assert_eq!(chunk.offset, expected);
                expected += chunk.data.len() as u64;
            }
            assert_eq!(expected, 200 * PIECE as u64);
        }
    );
}

#[tokio::test]
async fn error_is_the_last_item() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut logs = client.read_logs("1", OutputRange::default()).await.unwrap();
    let (id, _) = server.request().await;
    server
        .item(id, output_item(OutputStream::Stderr, 0, 10))
        .await;
    let error = ApiError::new(ErrorCode::OUTPUT_UNAVAILABLE, "the log was removed");
    server.end(id, Err(error)).await;
    // Through the `Stream` trait.
    let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut logs).poll_next(cx)).await;
    assert_eq!(
        next()
            .await
            .unwrap()
            .unwrap()
            .into_chunk()
            .unwrap()
            .data
            .len(),
        10
    );
    let error = next().await.unwrap().unwrap_err();
    assert_eq!(error.as_api().unwrap().code, ErrorCode::OUTPUT_UNAVAILABLE);
    assert!(next().await.is_none());
}
