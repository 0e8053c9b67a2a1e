//! What a handler of events is told, in which order, and when it is told no more.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use escher_client::protocol::message::{EventKind, OutputRequest};
use escher_client::protocol::{ClientFrame, Item, Request, RequestId, Response};
use escher_client::{
    ApiError, Client, Error, ErrorCode, Event, EventSubscription, EventsRequest, ExecutionEvent,
    ExecutionRecord, OutputStart, OutputStream, Status, Target, Timestamp,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item, record_response};
use escher_tests::samples::record;
use tokio::sync::mpsc;

/// A handler that passes on what it is told, and the id of its stream of events.
struct Told {
    handler: EventSubscription,
    told: mpsc::UnboundedReceiver<ExecutionEvent>,
    events: RequestId,
}

impl Told {
    async fn next(&mut self) -> ExecutionEvent {
        self.told.recv().await.unwrap()
    }

    /// Nothing is left to be told, and nothing will be.
    async fn end(mut self) {
        drop(self.handler);
        assert_eq!(self.told.recv().await, None);
    }
}

/// Adds a handler while these run, and these events are kept.
async fn added(
    client: &Client,
    server: &mut ServerConnection,
    running: &[u64],
    past: &[Event],
) -> Told {
    let (tell, told) = mpsc::unbounded_channel();
    let handler = move |event| drop(tell.send(event));
    let (handler, events) = tokio::join!(client.add_event_handler(handler), async {
        let (id, request) = server.next_request().await;
        assert!(matches!(request, Request::List(_)), "{request:?}");
        for number in running {
            let mut record = record(*number);
            record.status = Status::Running;
            server.item(id, Item::Execution(Box::new(record))).await;
        }
        server.end(id, Ok(())).await;
        let (id, request) = server.next_request().await;
        let kept = EventsRequest {
            after: None,
            follow: false,
        };
        assert_eq!(request, Request::Events(kept));
        for event in past {
            server.item(id, Item::Event(event.clone())).await;
        }
        server.end(id, Ok(())).await;
        let (id, request) = server.next_request().await;
        let from_now = EventsRequest {
            after: past.last().map(|event| event.sequence),
            follow: true,
        };
        assert_eq!(request, Request::Events(from_now));
        id
    });
    Told {
        handler: handler.unwrap(),
        told,
        events,
    }
}

fn event(sequence: u64, number: u64, kind: EventKind) -> Event {
    let record = record(number);
    Event {
        sequence,
        time: at(sequence),
        id: record.id,
        number: record.number,
        name: None,
        user: record.user,
        kind,
    }
}

fn at(sequence: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(sequence).unwrap())
}

fn finished(sequence: u64, number: u64) -> Event {
    event(sequence, number, EventKind::Finished(Status::Completed))
}

fn started(sequence: u64, number: u64) -> Event {
    event(sequence, number, EventKind::Started)
}

async fn happens(server: &mut ServerConnection, told: &Told, event: Event) {
    server.item(told.events, Item::Event(event)).await;
}

async fn followed(server: &mut ServerConnection, number: u64) -> (RequestId, OutputRequest) {
    match server.next_request().await {
        (id, Request::ReadOutput(request)) => {
            assert_eq!(request.target, Target::Id(record(number).id));
            assert!(request.follow);
            (id, request)
        }
        other => panic!("{other:?}"),
    }
}

/// The next request asks for the end of this one.
async fn waited_for(server: &mut ServerConnection, number: u64) -> RequestId {
    let (id, request) = server.next_request().await;
    assert_eq!(request, Request::Wait(record(number).id.into()));
    id
}

fn completed(number: u64) -> ExecutionEvent {
    ExecutionEvent::Completed(Box::new(record(number)))
}

fn start_of(number: u64, sequence: u64) -> ExecutionEvent {
    ExecutionEvent::Started {
        id: record(number).id,
        at: at(sequence),
    }
}

#[tokio::test]
async fn an_execution_is_told_of_from_its_start_to_its_end() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut told = added(&client, &mut server, &[], &[]).await;
    happens(&mut server, &told, event(1, 7, EventKind::Submitted)).await;
    happens(&mut server, &told, started(2, 7)).await;
    let (follow, _) = followed(&mut server, 7).await;
    assert_eq!(told.next().await, start_of(7, 2));
    let id = record(7).id;
    server
        .item(follow, output_item(OutputStream::Stderr, 0, 1))
        .await;
    let data = b"x"[..].into();
    assert_eq!(told.next().await, ExecutionEvent::Stderr { id, data });
    server
        .item(follow, output_item(OutputStream::Stdout, 1, 2))
        .await;
    // Its end is known first, and told last.
    happens(&mut server, &told, finished(3, 7)).await;
    server.end(follow, Ok(())).await;
    let wait = waited_for(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    let data = b"xx"[..].into();
    assert_eq!(told.next().await, ExecutionEvent::Stdout { id, data });
    assert_eq!(told.next().await, completed(7));
    told.end().await;
}

#[tokio::test]
async fn what_has_started_before_is_not_told_of() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    // Number 2 has started, 3 has ended between the list and the events.
    let past = [started(10, 2), finished(11, 3)];
    let mut told = added(&client, &mut server, &[1, 3], &past).await;
    happens(&mut server, &told, finished(12, 1)).await;
    happens(&mut server, &told, finished(13, 2)).await;
    // One that never started.
    happens(&mut server, &told, finished(14, 4)).await;
    for _ in 0..2 {
        let wait = waited_for(&mut server, 4).await;
        server.reply(wait, Ok(record_response(4))).await;
    }
    assert_eq!(told.next().await, completed(4));
    told.end().await;
}

#[tokio::test]
async fn one_whose_start_no_escherd_has_seen_is_told_of_whole() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut told = added(&client, &mut server, &[], &[]).await;
    happens(&mut server, &told, finished(1, 7)).await;
    let wait = waited_for(&mut server, 7).await;
    let record = ExecutionRecord {
        started_at: Some(at(5)),
        ..record(7)
    };
    let record = || Ok(Response::Execution(Box::new(record.clone())));
    server.reply(wait, record()).await;
    let (follow, _) = followed(&mut server, 7).await;
    server.end(follow, Ok(())).await;
    let wait = waited_for(&mut server, 7).await;
    server.reply(wait, record()).await;
    assert_eq!(told.next().await, start_of(7, 5));
    assert!(matches!(told.next().await, ExecutionEvent::Completed(_)));
}

#[tokio::test]
async fn one_that_writes_much_holds_up_no_other() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut told = added(&client, &mut server, &[], &[]).await;
    happens(&mut server, &told, started(1, 1)).await;
    followed(&mut server, 1).await;
    happens(&mut server, &told, started(2, 2)).await;
    let (follow, _) = followed(&mut server, 2).await;
    server.end(follow, Ok(())).await;
    let wait = waited_for(&mut server, 2).await;
    server.reply(wait, Ok(record_response(2))).await;
    assert_eq!(told.next().await, start_of(1, 1));
    assert_eq!(told.next().await, start_of(2, 2));
    assert_eq!(told.next().await, completed(2));
    told.end().await;
}

#[tokio::test]
async fn other_requests_have_room_beside_a_handler() {
    let mut daemon = FakeDaemon::start();
    daemon.limits.max_requests_in_flight = 4;
    let (client, mut server) = daemon.connect().await;
    let mut told = added(&client, &mut server, &[], &[]).await;
    for number in 1..=3 {
        happens(&mut server, &told, started(number, number)).await;
    }
    let (first, _) = followed(&mut server, 1).await;
    followed(&mut server, 2).await;
    // In the place of a third.
    let (asked, ()) = tokio::join!(client.get_status("9"), async {
        let (id, request) = server.next_request().await;
        assert!(matches!(request, Request::Status(_)), "{request:?}");
        server.reply(id, Ok(record_response(9))).await;
    });
    asked.unwrap();
    server.end(first, Ok(())).await;
    let wait = waited_for(&mut server, 1).await;
    server.reply(wait, Ok(record_response(1))).await;
    followed(&mut server, 3).await;
    for expected in [start_of(1, 1), start_of(2, 2), completed(1), start_of(3, 3)] {
        assert_eq!(told.next().await, expected);
    }
}

#[tokio::test]
async fn output_that_is_held_comes_before_the_end() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut told = added(&client, &mut server, &[], &[]).await;
    happens(&mut server, &told, started(1, 7)).await;
    let (follow, _) = followed(&mut server, 7).await;
    server
        .item(follow, output_item(OutputStream::Stdout, 0, 3))
        .await;
    let held = ApiError::new(ErrorCode::OUTPUT_HELD, "its output is served at its end");
    server.end(follow, Err(held)).await;
    let wait = waited_for(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    let (rest, request) = followed(&mut server, 7).await;
    assert_eq!(request.start, OutputStart::Offset(3));
    // The log was removed meanwhile.
    let gone = ApiError::new(ErrorCode::OUTPUT_UNAVAILABLE, "there is no log");
    server.end(rest, Err(gone)).await;
    let wait = waited_for(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    assert_eq!(told.next().await, start_of(7, 1));
    assert!(matches!(told.next().await, ExecutionEvent::Stdout { .. }));
    assert_eq!(told.next().await, completed(7));
}

#[tokio::test]
async fn over_a_lost_connection_everything_is_told_once() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut told = added(&client, &mut server, &[], &[]).await;
    happens(&mut server, &told, started(5, 7)).await;
    let (follow, _) = followed(&mut server, 7).await;
    server
        .item(follow, output_item(OutputStream::Stdout, 0, 3))
        .await;
    assert_eq!(told.next().await, start_of(7, 5));
    assert!(matches!(told.next().await, ExecutionEvent::Stdout { .. }));
    drop(server);

    let mut server = daemon.accept().await;
    for _ in 0..2 {
        match server.next_request().await {
            (id, Request::Events(request)) => {
                assert_eq!(request.after, Some(5));
                server.item(id, Item::Event(finished(6, 7))).await;
            }
            (id, Request::ReadOutput(request)) => {
                assert_eq!(request.start, OutputStart::Offset(3));
                server.end(id, Ok(())).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let wait = waited_for(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    assert_eq!(told.next().await, completed(7));
    told.end().await;
}

#[tokio::test]
async fn a_handler_that_is_dropped_asks_for_nothing_more() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut told = added(&client, &mut server, &[], &[]).await;
    happens(&mut server, &told, started(1, 7)).await;
    let (follow, _) = followed(&mut server, 7).await;
    assert_eq!(told.next().await, start_of(7, 1));
    let events = told.events;
    told.end().await;
    let mut abandoned = Vec::new();
    while abandoned.len() < 2 {
        match server.frame().await {
            Some(ClientFrame::Abandon { id }) => abandoned.push(id),
            Some(ClientFrame::Grant { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    abandoned.sort_unstable();
    assert_eq!(abandoned, [events, follow]);
}

#[tokio::test]
async fn a_handler_that_can_be_told_no_more_says_why() {
    let daemon = FakeDaemon::start();
    let connector = daemon.connector().reconnect_timeout(Duration::ZERO);
    let (client, mut server) = daemon.connect_with(connector).await;
    let told = added(&client, &mut server, &[], &[]).await;
    let missed = ApiError::new(ErrorCode::EVENTS_MISSED, "events 1 to 9 are no longer kept");
    server.end(told.events, Err(missed)).await;
    for _ in 0..2 {
        let failure = told.handler.failure().await;
        assert_eq!(failure.as_api().unwrap().code, ErrorCode::EVENTS_MISSED);
    }
    told.end().await;

    let told = added(&client, &mut server, &[], &[]).await;
    drop(server);
    let failure = told.handler.failure().await;
    assert!(matches!(failure, Error::Disconnected(_)), "{failure:?}");
}
