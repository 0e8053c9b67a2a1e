//! Streams and standard input over several connections: nothing is lost or repeated.
#![allow(clippy::unwrap_used)]

use escher_client::protocol::message::{EventKind, OutputRequest};
use escher_client::protocol::{ClientFrame, Item, Request, RequestId, Response};
use escher_client::{
    ApiError, ErrorCode, Event, EventsRequest, EventsStart, GapReason, ListFilter, OutputChunk,
    OutputGap, OutputItem, OutputRange, OutputStart, OutputStream,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item};
use escher_tests::next_chunk;
use escher_tests::samples::record;
use proptest::prelude::*;

/// Reads a request for output.
async fn expect_read_output(server: &mut ServerConnection) -> (RequestId, OutputRequest) {
    match server.next_request().await {
        (id, Request::ReadOutput(request)) => (id, request),
        other => panic!("{other:?}"),
    }
}

/// A gap is a position, too: what was forgotten is not requested again, and what was dropped is not
/// reported twice.
#[tokio::test]
async fn output_continues_after_the_last_gap() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut follow = client.follow("1", OutputRange::default()).await.unwrap();
    let (id, _) = expect_read_output(&mut server).await;
    let forgotten = OutputGap {
        offset: 0,
        bytes: Some(700),
        reason: GapReason::Forgotten,
    };
    let dropped = OutputGap {
        offset: 700,
        bytes: Some(5),
        reason: GapReason::Dropped,
    };
    for gap in [forgotten, dropped] {
        server.item(id, Item::Gap(gap)).await;
        let next = follow.next().await.unwrap().unwrap();
        assert_eq!(next, OutputItem::Gap(gap));
    }
    drop(server);
    let (next, ()) = tokio::join!(follow.next(), async {
        let mut server = daemon.accept().await;
        let (id, request) = expect_read_output(&mut server).await;
        assert_eq!(request.start, OutputStart::Offset(700));
        server.item(id, Item::Gap(dropped)).await;
        server
            .item(id, output_item(OutputStream::Stdout, 700, 3))
            .await;
    });
    let chunk = next.unwrap().unwrap().into_chunk().unwrap();
    assert_eq!(chunk.offset, 700);
}

#[tokio::test]
async fn output_continues_after_the_last_chunk() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let range = OutputRange {
        start: OutputStart::LastLines(5),
        length: Some(100),
        ..OutputRange::default()
    };
    let mut follow = client.follow("1", range).await.unwrap();
    let (_, first) = expect_read_output(&mut server).await;
    drop(server);
    let next = tokio::spawn(async move {
        let chunk = next_chunk(&mut follow).await;
        (follow, chunk)
    });

    // Without a chunk, the request is sent again unchanged.
    let mut server = daemon.accept().await;
    let (id, second) = expect_read_output(&mut server).await;
    assert_eq!(first, second);
    server
        .item(id, output_item(OutputStream::Stdout, 1_000, 30))
        .await;
    let (mut follow, chunk) = next.await.unwrap();
    assert_eq!(chunk.offset, 1_000);
    // This time escherd shuts down.
    let shutdown = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd shuts down");
    server.end(id, Err(shutdown)).await;
    let ((), ()) = tokio::join!(
        async {
            assert_eq!(next_chunk(&mut follow).await.offset, 1_030);
            // All of the 100 bytes have been read, so the stream does not wait for its end.
            assert!(follow.next().await.is_none());
        },
        async {
            let mut server = daemon.accept().await;
            let (id, third) = expect_read_output(&mut server).await;
            assert_eq!(
                third,
                OutputRequest {
                    start: OutputStart::Offset(1_030),
                    length: Some(70),
                    ..first
                }
            );
            server
                .item(id, output_item(OutputStream::Stdout, 1_030, 70))
                .await;
        }
    );
}

fn event(sequence: u64) -> Item {
    let record = record(1);
    Item::Event(Event {
        sequence,
        time: record.submitted_at,
        id: record.id,
        number: 1,
        name: None,
        user: record.user,
        kind: EventKind::Started,
    })
}

#[tokio::test]
async fn events_continue_after_the_last_one() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let request = EventsRequest {
        start: EventsStart::Last(0),
        follow: true,
        ..EventsRequest::default()
    };
    let mut events = client.events(request).await.unwrap();
    let asked = async |server: &mut ServerConnection| match server.request().await {
        (id, Request::Events(request)) => (id, request.start),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&mut server).await.1, EventsStart::Last(0));
    drop(server);
    let ((), ()) = tokio::join!(
        async {
            for sequence in [3, 7, 8] {
                let event = events.next().await.unwrap().unwrap();
                assert_eq!(event.sequence, sequence);
            }
            let end = events.next().await.unwrap().unwrap_err();
            assert_eq!(end.as_api().unwrap().code, ErrorCode::EVENTS_MISSED);
        },
        async {
            let mut server = daemon.accept().await;
            let (id, after) = asked(&mut server).await;
            assert_eq!(after, EventsStart::Last(0));
            // What happens before the next connection is not before the start.
            server.item(id, Item::EventsAfter { sequence: 2 }).await;
            drop(server);
            let mut server = daemon.accept().await;
            let (id, after) = asked(&mut server).await;
            assert_eq!(after, EventsStart::After(2));
            server.item(id, event(3)).await;
            server.item(id, event(7)).await;
            drop(server);
            let mut server = daemon.accept().await;
            let (id, after) = asked(&mut server).await;
            assert_eq!(after, EventsStart::After(7));
            server.item(id, event(8)).await;
            let missed = ApiError::new(ErrorCode::EVENTS_MISSED, "no longer kept");
            server.end(id, Err(missed)).await;
        }
    );
}

#[tokio::test]
async fn list_continues_below_the_last_number_and_keeps_its_limit() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let filter = ListFilter {
        limit: 4,
        ..ListFilter::default()
    };
    let mut found = client.list_executions(filter).await.unwrap();
    let send = async |server: &mut ServerConnection, numbers: &[u64], expected_limit| {
        let (id, request) = server.request().await;
        let Request::List(selection) = request else {
            panic!("{request:?}")
        };
        assert_eq!(selection.filter.limit, expected_limit);
        for &number in numbers {
            let item = Item::Execution(Box::new(record(number)));
            server.item(id, item).await;
        }
    };
    let ((), ()) = tokio::join!(
        async {
            for number in [20, 19, 15, 11] {
                let record = found.next().await.unwrap().unwrap();
                assert_eq!(record.number, number);
            }
            // The daemon has sent more than the limit.
            assert!(found.next().await.is_none());
        },
        async {
            send(&mut server, &[20, 19], 4).await;
            drop(server);
            // Two are new, and 20 has been removed.
            let mut server = daemon.accept().await;
            send(&mut server, &[22, 21, 19, 15, 11, 10], 0).await;
        }
    );
}

/// A log that is sent in pieces over several connections, and the range that is read.
#[derive(Debug, Clone)]
struct LogPlan {
    log: Vec<u8>,
    piece_length: usize,
    /// The number of pieces on each connection but the last.
    pieces_per_connection: Vec<usize>,
    /// Whether each connection ends with a shutdown notice.
    shutdown_notices: Vec<bool>,
    start: usize,
    length: Option<usize>,
}

fn log_plan() -> impl Strategy<Value = LogPlan> {
    (
        prop::collection::vec(any::<u8>(), 0..400),
        1..40_usize,
        // Only the first connection may be empty: after another one the client would pause.
        (0..6_usize, prop::collection::vec(1..6_usize, 0..6)),
        prop::collection::vec(any::<bool>(), 7),
        0..100_usize,
        prop::option::of(0..300_usize),
    )
        .prop_map(
            |(log, piece_length, (first, more), shutdown_notices, start, length)| LogPlan {
                log,
                piece_length,
                pieces_per_connection: [vec![first], more].concat(),
                shutdown_notices,
                start,
                length,
            },
        )
}

/// Sends the requested range, but at most `max_pieces`. Returns whether that was all.
async fn send_log(
    server: &mut ServerConnection,
    plan: &LogPlan,
    max_pieces: Option<usize>,
    shutdown_notice: bool,
) -> bool {
    let (id, request) = expect_read_output(server).await;
    let OutputStart::Offset(start) = request.start else {
        panic!("{request:?}")
    };
    let start = usize::try_from(start).unwrap();
    let end = request.length.map_or(usize::MAX, |length| {
        start.saturating_add(usize::try_from(length).unwrap())
    });
    let end = end.min(plan.log.len());
    let mut offset = start;
    let mut sent = 0;
    while offset < end {
        if Some(sent) == max_pieces {
            if shutdown_notice {
                let shutdown = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd shuts down");
                server.end(id, Err(shutdown)).await;
            }
            return false;
        }
        let next = (offset + plan.piece_length).min(end);
        let chunk = OutputChunk {
            stream: OutputStream::Stdout,
            offset: offset as u64,
            time_us: 0,
            data: plan.log[offset..next].into(),
        };
        server.item(id, Item::Output(chunk)).await;
        (offset, sent) = (next, sent + 1);
    }
    server.end(id, Ok(())).await;
    true
}

async fn read_over_connections(plan: LogPlan) -> Vec<u8> {
    let mut daemon = FakeDaemon::start();
    daemon.limits.stream_window_bytes = 1_000_000;
    let (client, mut server) = daemon.connect().await;
    let range = OutputRange {
        length: plan.length.map(|length| length as u64),
        ..OutputRange::from_offset(plan.start as u64)
    };
    let mut output = client.follow("1", range).await.unwrap();
    let mut read = Vec::new();
    let mut pieces = plan.pieces_per_connection.iter();
    let mut notices = plan.shutdown_notices.iter();
    let ((), ()) = tokio::join!(
        async {
            while let Some(chunk) = output.next().await {
                let chunk = chunk.unwrap().into_chunk().unwrap();
                assert_eq!(chunk.offset, (plan.start + read.len()) as u64);
                read.extend_from_slice(&chunk.data);
            }
        },
        async {
            loop {
                let notice = notices.next().is_some_and(|notice| *notice);
                if send_log(&mut server, &plan, pieces.next().copied(), notice).await {
                    return;
                }
                if !notice {
                    drop(server);
                }
                server = daemon.accept().await;
            }
        }
    );
    read
}

/// Appends up to `max_pieces` pieces of input to `received`. Returns whether the input has ended.
///
/// The end is acknowledged only without a maximum.
async fn receive_input(
    server: &mut ServerConnection,
    received: &mut Vec<u8>,
    max_pieces: Option<usize>,
    acknowledges: impl Fn(usize) -> bool,
) -> bool {
    let mut seen = 0;
    while Some(seen) != max_pieces {
        let (id, request) = match server.frame().await {
            Some(ClientFrame::Request { id, body }) => (id, body),
            other => panic!("{other:?}"),
        };
        let Request::WriteStdin {
            offset, data, end, ..
        } = request
        else {
            panic!("{request:?}")
        };
        let offset = usize::try_from(offset).unwrap();
        assert!(offset <= received.len(), "a gap before {offset}");
        let known = received.len() - offset;
        received.extend(data.iter().skip(known));
        if max_pieces.is_none() || (acknowledges(seen) && !end) {
            let offset = received.len() as u64;
            let accepted = Response::StdinAccepted { offset };
            server.reply(id, Ok(accepted)).await;
        }
        if end {
            return true;
        }
        seen += 1;
    }
    false
}

async fn write_over_connections(
    input: Vec<u8>,
    pieces_per_connection: Vec<usize>,
) -> (u64, Vec<u8>) {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut received = Vec::new();
    let (written, ()) = tokio::join!(
        async {
            let mut stdin = client.stdin("1");
            for part in input.chunks(100_000) {
                stdin.write(part).await.unwrap();
            }
            stdin.finish().await.unwrap()
        },
        async {
            // The first piece of each connection is acknowledged: after a connection without any response the
            // client would pause.
            let acknowledges = |piece| piece % 3 == 0;
            for pieces in pieces_per_connection {
                let ended =
                    receive_input(&mut server, &mut received, Some(pieces), acknowledges).await;
                drop(server);
                server = daemon.accept().await;
                if ended {
                    break;
                }
            }
            receive_input(&mut server, &mut received, None, acknowledges).await;
        }
    );
    (written, received)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_is_exact_over_any_connections(plan in log_plan()) {
        let end = plan.length.map_or(usize::MAX, |length| plan.start + length);
        let end = end.min(plan.log.len());
        let expected = plan.log.get(plan.start..end).unwrap_or_default().to_vec();
        prop_assert_eq!(block_on(read_over_connections(plan)), expected);
    }

    #[test]
    fn input_is_exact_over_any_connections(
        length in 0..400_000_usize,
        // The client sends at most four pieces before one is acknowledged.
        pieces_per_connection in prop::collection::vec(1..5_usize, 0..5),
    ) {
        let input: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[1]).collect();
        let (written, received) = block_on(write_over_connections(input.clone(), pieces_per_connection));
        prop_assert_eq!(written, length as u64);
        prop_assert_eq!(received, input);
    }
}
