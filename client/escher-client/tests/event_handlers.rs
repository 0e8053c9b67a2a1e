//! Event handlers: what they are called with, in which order, and when they stop.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use escher_client::protocol::message::{EventKind, OutputRequest};
use escher_client::protocol::{ClientFrame, Item, Request, RequestId, Response};
use escher_client::{
    ApiError, Client, Error, ErrorCode, Event, EventSubscription, EventsRequest, EventsStart,
    ExecutionEvent, ExecutionRecord, GapReason, OutputGap, OutputStart, OutputStream, Status,
    Target, Timestamp,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item, record_response};
use escher_tests::samples::record;
use tokio::sync::mpsc;

/// A subscribed handler that sends what it is called with to a channel.
struct Subscriber {
    subscription: EventSubscription,
    received: mpsc::UnboundedReceiver<ExecutionEvent>,
    /// The client's request for events.
    events_request: RequestId,
}

impl Subscriber {
    async fn next(&mut self) -> ExecutionEvent {
        self.received.recv().await.unwrap()
    }

    /// Ends the subscription. The handler must not have received anything else.
    async fn unsubscribe(mut self) {
        drop(self.subscription);
        assert_eq!(self.received.recv().await, None);
    }
}

/// Adds a handler while these executions are running, and after these events.
async fn subscribe(
    client: &Client,
    server: &mut ServerConnection,
    running: &[u64],
    past: &[Event],
) -> Subscriber {
    let (sender, received) = mpsc::unbounded_channel();
    let handler = move |event| drop(sender.send(event));
    let (subscription, events_request) = tokio::join!(client.add_event_handler(handler), async {
        let (id, request) = server.next_request().await;
        assert!(matches!(request, Request::List(_)), "{request:?}");
        for number in running {
            let mut record = record(*number);
            record.status = Status::Running;
            server.item(id, Item::Execution(Box::new(record))).await;
        }
        server.end(id, Ok(())).await;
        let (id, request) = server.next_request().await;
        assert_eq!(request, Request::Events(EventsRequest::default()));
        for event in past {
            server.item(id, Item::Event(event.clone())).await;
        }
        server.end(id, Ok(())).await;
        let (id, request) = server.next_request().await;
        let new_events = EventsRequest {
            start: past.last().map_or(EventsStart::Oldest, |event| {
                EventsStart::After(event.sequence)
            }),
            follow: true,
            ..EventsRequest::default()
        };
        assert_eq!(request, Request::Events(new_events));
        id
    });
    Subscriber {
        subscription: subscription.unwrap(),
        received,
        events_request,
    }
}

fn event(sequence: u64, number: u64, kind: EventKind) -> Event {
    let record = record(number);
    Event {
        sequence,
        time: time(sequence),
        id: record.id,
        number: record.number,
        name: None,
        user: record.user,
        kind,
    }
}

fn time(sequence: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(sequence).unwrap())
}

fn finished(sequence: u64, number: u64) -> Event {
    event(sequence, number, EventKind::Finished(Status::Completed))
}

fn started(sequence: u64, number: u64) -> Event {
    event(sequence, number, EventKind::Started)
}

async fn send_event(server: &mut ServerConnection, subscriber: &Subscriber, event: Event) {
    let request = subscriber.events_request;
    server.item(request, Item::Event(event)).await;
}

/// Reads a request that follows the output of this execution.
async fn expect_follow(server: &mut ServerConnection, number: u64) -> (RequestId, OutputRequest) {
    match server.next_request().await {
        (id, Request::ReadOutput(request)) => {
            assert_eq!(request.target, Target::Id(record(number).id));
            assert!(request.follow);
            (id, request)
        }
        other => panic!("{other:?}"),
    }
}

/// Reads a request that waits for this execution.
async fn expect_wait(server: &mut ServerConnection, number: u64) -> RequestId {
    let (id, request) = server.next_request().await;
    assert_eq!(request, Request::Wait(record(number).id.into()));
    id
}

fn completed_event(number: u64) -> ExecutionEvent {
    ExecutionEvent::Completed(Box::new(record(number)))
}

fn started_event(number: u64, sequence: u64) -> ExecutionEvent {
    ExecutionEvent::Started {
        id: record(number).id,
        at: time(sequence),
    }
}

#[tokio::test]
async fn reports_start_output_and_end_in_order() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut subscriber = subscribe(&client, &mut server, &[], &[]).await;
    send_event(&mut server, &subscriber, event(1, 7, EventKind::Submitted)).await;
    send_event(&mut server, &subscriber, started(2, 7)).await;
    let (follow, _) = expect_follow(&mut server, 7).await;
    assert_eq!(subscriber.next().await, started_event(7, 2));
    let id = record(7).id;
    server
        .item(follow, output_item(OutputStream::Stderr, 0, 1))
        .await;
    let data = b"x"[..].into();
    assert_eq!(subscriber.next().await, ExecutionEvent::Stderr { id, data });
    let gap = OutputGap {
        offset: 1,
        bytes: Some(5),
        reason: GapReason::Dropped,
    };
    server.item(follow, Item::Gap(gap)).await;
    let missing = ExecutionEvent::OutputMissing { id, gap };
    assert_eq!(subscriber.next().await, missing);
    server
        .item(follow, output_item(OutputStream::Stdout, 1, 2))
        .await;
    // The event of the end arrives before the rest of the output.
    send_event(&mut server, &subscriber, finished(3, 7)).await;
    server.end(follow, Ok(())).await;
    let wait = expect_wait(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    let data = b"xx"[..].into();
    assert_eq!(subscriber.next().await, ExecutionEvent::Stdout { id, data });
    assert_eq!(subscriber.next().await, completed_event(7));
    subscriber.unsubscribe().await;
}

#[tokio::test]
async fn does_not_report_executions_that_started_before() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    // Between the list and the events, 2 has started and 3 has ended.
    let past = [started(10, 2), finished(11, 3)];
    let mut subscriber = subscribe(&client, &mut server, &[1, 3], &past).await;
    send_event(&mut server, &subscriber, finished(12, 1)).await;
    send_event(&mut server, &subscriber, finished(13, 2)).await;
    // This one never started.
    send_event(&mut server, &subscriber, finished(14, 4)).await;
    for _ in 0..2 {
        let wait = expect_wait(&mut server, 4).await;
        server.reply(wait, Ok(record_response(4))).await;
    }
    assert_eq!(subscriber.next().await, completed_event(4));
    subscriber.unsubscribe().await;
}

#[tokio::test]
async fn reports_an_execution_that_started_while_escherd_was_down() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut subscriber = subscribe(&client, &mut server, &[], &[]).await;
    send_event(&mut server, &subscriber, finished(1, 7)).await;
    let wait = expect_wait(&mut server, 7).await;
    let record = ExecutionRecord {
        started_at: Some(time(5)),
        ..record(7)
    };
    let record = || Ok(Response::Execution(Box::new(record.clone())));
    server.reply(wait, record()).await;
    let (follow, _) = expect_follow(&mut server, 7).await;
    server.end(follow, Ok(())).await;
    let wait = expect_wait(&mut server, 7).await;
    server.reply(wait, record()).await;
    assert_eq!(subscriber.next().await, started_event(7, 5));
    assert!(matches!(
        subscriber.next().await,
        ExecutionEvent::Completed(_)
    ));
}

#[tokio::test]
async fn follows_the_output_of_several_executions_at_once() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut subscriber = subscribe(&client, &mut server, &[], &[]).await;
    send_event(&mut server, &subscriber, started(1, 1)).await;
    expect_follow(&mut server, 1).await;
    send_event(&mut server, &subscriber, started(2, 2)).await;
    let (follow, _) = expect_follow(&mut server, 2).await;
    server.end(follow, Ok(())).await;
    let wait = expect_wait(&mut server, 2).await;
    server.reply(wait, Ok(record_response(2))).await;
    assert_eq!(subscriber.next().await, started_event(1, 1));
    assert_eq!(subscriber.next().await, started_event(2, 2));
    assert_eq!(subscriber.next().await, completed_event(2));
    subscriber.unsubscribe().await;
}

#[tokio::test]
async fn leaves_half_of_the_requests_in_flight_to_others() {
    let mut daemon = FakeDaemon::start();
    daemon.limits.max_requests_in_flight = 4;
    let (client, mut server) = daemon.connect().await;
    let mut subscriber = subscribe(&client, &mut server, &[], &[]).await;
    for number in 1..=3 {
        send_event(&mut server, &subscriber, started(number, number)).await;
    }
    let (first, _) = expect_follow(&mut server, 1).await;
    expect_follow(&mut server, 2).await;
    // The limit is 4: events, two outputs, and this request.
    let (asked, ()) = tokio::join!(client.get_status("9"), async {
        let (id, request) = server.next_request().await;
        assert!(matches!(request, Request::Status(_)), "{request:?}");
        server.reply(id, Ok(record_response(9))).await;
    });
    asked.unwrap();
    server.end(first, Ok(())).await;
    let wait = expect_wait(&mut server, 1).await;
    server.reply(wait, Ok(record_response(1))).await;
    expect_follow(&mut server, 3).await;
    for expected in [
        started_event(1, 1),
        started_event(2, 2),
        completed_event(1),
        started_event(3, 3),
    ] {
        assert_eq!(subscriber.next().await, expected);
    }
}

#[tokio::test]
async fn reports_output_that_is_served_only_at_the_end() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut subscriber = subscribe(&client, &mut server, &[], &[]).await;
    send_event(&mut server, &subscriber, started(1, 7)).await;
    let (follow, _) = expect_follow(&mut server, 7).await;
    server
        .item(follow, output_item(OutputStream::Stdout, 0, 3))
        .await;
    let held = ApiError::new(ErrorCode::OUTPUT_HELD, "its output is served at its end");
    server.end(follow, Err(held)).await;
    let wait = expect_wait(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    let (rest, request) = expect_follow(&mut server, 7).await;
    assert_eq!(request.start, OutputStart::Offset(3));
    // The log has been removed.
    let gone = ApiError::new(ErrorCode::OUTPUT_UNAVAILABLE, "there is no log");
    server.end(rest, Err(gone)).await;
    let wait = expect_wait(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    assert_eq!(subscriber.next().await, started_event(7, 1));
    assert!(matches!(
        subscriber.next().await,
        ExecutionEvent::Stdout { .. }
    ));
    assert_eq!(subscriber.next().await, completed_event(7));
}

#[tokio::test]
async fn reports_everything_once_over_a_lost_connection() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut subscriber = subscribe(&client, &mut server, &[], &[]).await;
    send_event(&mut server, &subscriber, started(5, 7)).await;
    let (follow, _) = expect_follow(&mut server, 7).await;
    server
        .item(follow, output_item(OutputStream::Stdout, 0, 3))
        .await;
    assert_eq!(subscriber.next().await, started_event(7, 5));
    assert!(matches!(
        subscriber.next().await,
        ExecutionEvent::Stdout { .. }
    ));
    drop(server);

    let mut server = daemon.accept().await;
    for _ in 0..2 {
        match server.next_request().await {
            (id, Request::Events(request)) => {
                assert_eq!(request.start, EventsStart::After(5));
                server.item(id, Item::Event(finished(6, 7))).await;
            }
            (id, Request::ReadOutput(request)) => {
                assert_eq!(request.start, OutputStart::Offset(3));
                server.end(id, Ok(())).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let wait = expect_wait(&mut server, 7).await;
    server.reply(wait, Ok(record_response(7))).await;
    assert_eq!(subscriber.next().await, completed_event(7));
    subscriber.unsubscribe().await;
}

#[tokio::test]
async fn dropping_the_subscription_abandons_its_requests() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let mut subscriber = subscribe(&client, &mut server, &[], &[]).await;
    send_event(&mut server, &subscriber, started(1, 7)).await;
    let (follow, _) = expect_follow(&mut server, 7).await;
    assert_eq!(subscriber.next().await, started_event(7, 1));
    let events = subscriber.events_request;
    subscriber.unsubscribe().await;
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
async fn failure_returns_why_the_subscription_ended() {
    let daemon = FakeDaemon::start();
    let connector = daemon.connector().reconnect_timeout(Duration::ZERO);
    let (client, mut server) = daemon.connect_with(connector).await;
    let subscriber = subscribe(&client, &mut server, &[], &[]).await;
    let missed = ApiError::new(ErrorCode::EVENTS_MISSED, "events 1 to 9 are no longer kept");
    server.end(subscriber.events_request, Err(missed)).await;
    for _ in 0..2 {
        let failure = subscriber.subscription.failure().await;
        assert_eq!(failure.as_api().unwrap().code, ErrorCode::EVENTS_MISSED);
    }
    subscriber.unsubscribe().await;

    let subscriber = subscribe(&client, &mut server, &[], &[]).await;
    drop(server);
    let failure = subscriber.subscription.failure().await;
    assert!(matches!(failure, Error::Disconnected(_)), "{failure:?}");
}
