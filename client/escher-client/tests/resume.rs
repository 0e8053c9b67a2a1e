//! Streams and standard input over several connections: nothing is lost and nothing comes twice.
#![allow(clippy::unwrap_used)]

use escher_client::protocol::message::{EventKind, OutputRequest};
use escher_client::protocol::{ClientFrame, Item, Request, RequestId, Response};
use escher_client::{
    ApiError, ErrorCode, Event, EventsRequest, ListFilter, OutputChunk, OutputRange, OutputStart,
    OutputStream,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item};
use escher_tests::samples::record;
use proptest::prelude::*;

async fn read_output(server: &mut ServerConnection) -> (RequestId, OutputRequest) {
    match server.next_request().await {
        (id, Request::ReadOutput(request)) => (id, request),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn output_goes_on_behind_the_last_chunk() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let range = OutputRange {
        start: OutputStart::LastLines(5),
        length: Some(100),
        ..OutputRange::default()
    };
    let mut follow = client.follow("1", range).await.unwrap();
    let (_, first) = read_output(&mut server).await;
    drop(server);
    let next = tokio::spawn(async move {
        let chunk = follow.next().await.unwrap().unwrap();
        (follow, chunk)
    });

    // Nothing has come: it is asked for as it was.
    let mut server = daemon.accept().await;
    let (id, second) = read_output(&mut server).await;
    assert_eq!(first, second);
    server
        .item(id, output_item(OutputStream::Stdout, 1_000, 30))
        .await;
    let (mut follow, chunk) = next.await.unwrap();
    assert_eq!(chunk.offset, 1_000);
    // An escherd that stops, this time.
    let stops = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd is about to stop");
    server.end(id, Err(stops)).await;
    let ((), ()) = tokio::join!(
        async {
            assert_eq!(follow.next().await.unwrap().unwrap().offset, 1_030);
            // All of the 100 bytes have been looked at, so the end is not waited for.
            assert!(follow.next().await.is_none());
        },
        async {
            let mut server = daemon.accept().await;
            let (id, third) = read_output(&mut server).await;
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
async fn events_go_on_behind_the_last_one() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let request = EventsRequest {
        after: None,
        follow: true,
    };
    let mut events = client.events(request).await.unwrap();
    let asked = async |server: &mut ServerConnection| match server.request().await {
        (id, Request::Events(request)) => (id, request.after),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&mut server).await.1, None);
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
            assert_eq!(after, None);
            server.item(id, event(3)).await;
            server.item(id, event(7)).await;
            drop(server);
            let mut server = daemon.accept().await;
            let (id, after) = asked(&mut server).await;
            assert_eq!(after, Some(7));
            server.item(id, event(8)).await;
            let missed = ApiError::new(ErrorCode::EVENTS_MISSED, "no longer kept");
            server.end(id, Err(missed)).await;
        }
    );
}

#[tokio::test]
async fn a_list_goes_on_below_the_last_number_and_keeps_its_limit() {
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
            // More were sent than were asked for at first.
            assert!(found.next().await.is_none());
        },
        async {
            send(&mut server, &[20, 19], 4).await;
            drop(server);
            // Some are new, and one is gone.
            let mut server = daemon.accept().await;
            send(&mut server, &[22, 21, 19, 15, 11, 10], 0).await;
        }
    );
}

/// A log that is served in pieces, over connections that last as long as they are told to.
#[derive(Debug, Clone)]
struct Served {
    log: Vec<u8>,
    piece: usize,
    /// Pieces that come over each connection but the last.
    cuts: Vec<usize>,
    /// How each of them ends: by hanging up, or by saying so before.
    farewells: Vec<bool>,
    start: usize,
    length: Option<usize>,
}

fn served() -> impl Strategy<Value = Served> {
    (
        prop::collection::vec(any::<u8>(), 0..400),
        1..40_usize,
        // The first may come to nothing; after one that did, the client pauses.
        (0..6_usize, prop::collection::vec(1..6_usize, 0..6)),
        prop::collection::vec(any::<bool>(), 7),
        0..100_usize,
        prop::option::of(0..300_usize),
    )
        .prop_map(
            |(log, piece, (first, more), farewells, start, length)| Served {
                log,
                piece,
                cuts: [vec![first], more].concat(),
                farewells,
                start,
                length,
            },
        )
}

/// Sends what is asked for, at most `most` pieces of it; whether that was all.
async fn serve(
    server: &mut ServerConnection,
    served: &Served,
    most: Option<usize>,
    farewell: bool,
) -> bool {
    let (id, request) = read_output(server).await;
    let OutputStart::Offset(start) = request.start else {
        panic!("{request:?}")
    };
    let start = usize::try_from(start).unwrap();
    let end = request.length.map_or(usize::MAX, |length| {
        start.saturating_add(usize::try_from(length).unwrap())
    });
    let end = end.min(served.log.len());
    let mut offset = start;
    let mut sent = 0;
    while offset < end {
        if Some(sent) == most {
            if farewell {
                let stops = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd is about to stop");
                server.end(id, Err(stops)).await;
            }
            return false;
        }
        let next = (offset + served.piece).min(end);
        let chunk = OutputChunk {
            stream: OutputStream::Stdout,
            offset: offset as u64,
            time_us: 0,
            data: served.log[offset..next].into(),
        };
        server.item(id, Item::Output(chunk)).await;
        (offset, sent) = (next, sent + 1);
    }
    server.end(id, Ok(())).await;
    true
}

async fn read_over_cuts(served: Served) -> Vec<u8> {
    let mut daemon = FakeDaemon::start();
    daemon.limits.stream_window_bytes = 1_000_000;
    let (client, mut server) = daemon.connect().await;
    let range = OutputRange {
        length: served.length.map(|length| length as u64),
        ..OutputRange::from_offset(served.start as u64)
    };
    let mut output = client.follow("1", range).await.unwrap();
    let mut read = Vec::new();
    let (mut cuts, mut farewells) = (served.cuts.iter(), served.farewells.iter());
    let ((), ()) = tokio::join!(
        async {
            while let Some(chunk) = output.next().await {
                let chunk = chunk.unwrap();
                assert_eq!(chunk.offset, (served.start + read.len()) as u64);
                read.extend_from_slice(&chunk.data);
            }
        },
        async {
            loop {
                let farewell = farewells.next().is_some_and(|said| *said);
                if serve(&mut server, &served, cuts.next().copied(), farewell).await {
                    return;
                }
                if !farewell {
                    drop(server);
                }
                server = daemon.accept().await;
            }
        }
    );
    read
}

/// Takes pieces of an input until it is told to hang up, as an escherd whose shim has them; whether
/// the end has come. Only without cuts it is acknowledged.
async fn take_input(
    server: &mut ServerConnection,
    taken: &mut Vec<u8>,
    pieces: Option<usize>,
    acknowledges: impl Fn(usize) -> bool,
) -> bool {
    let mut seen = 0;
    while Some(seen) != pieces {
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
        assert!(offset <= taken.len(), "a gap before {offset}");
        let known = taken.len() - offset;
        taken.extend(data.iter().skip(known));
        if pieces.is_none() || (acknowledges(seen) && !end) {
            let offset = taken.len() as u64;
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

async fn write_over_cuts(input: Vec<u8>, cuts: Vec<usize>) -> (u64, Vec<u8>) {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut taken = Vec::new();
    let (written, ()) = tokio::join!(
        async {
            let mut stdin = client.stdin("1");
            for part in input.chunks(100_000) {
                stdin.write(part).await.unwrap();
            }
            stdin.finish().await.unwrap()
        },
        async {
            // The first of each connection is acknowledged, so that it is not taken for fruitless.
            let acknowledges = |piece| piece % 3 == 0;
            for cut in cuts {
                let ended = take_input(&mut server, &mut taken, Some(cut), acknowledges).await;
                drop(server);
                server = daemon.accept().await;
                if ended {
                    break;
                }
            }
            take_input(&mut server, &mut taken, None, acknowledges).await;
        }
    );
    (written, taken)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_is_exact_over_any_cuts(served in served()) {
        let end = served.length.map_or(usize::MAX, |length| served.start + length);
        let end = end.min(served.log.len());
        let expected = served.log.get(served.start..end).unwrap_or_default().to_vec();
        prop_assert_eq!(run(read_over_cuts(served)), expected);
    }

    #[test]
    fn input_is_exact_over_any_cuts(
        length in 0..400_000_usize,
        // No more pieces than that come before one is acknowledged.
        cuts in prop::collection::vec(1..5_usize, 0..5),
    ) {
        let input: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[1]).collect();
        let (written, taken) = run(write_over_cuts(input.clone(), cuts));
        prop_assert_eq!(written, length as u64);
        prop_assert_eq!(taken, input);
    }
}
