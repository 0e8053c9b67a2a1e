//! Reconnecting: which requests are sent again, what triggers an attempt, and when the client gives
//! up.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_client::protocol::handshake::{HelloReply, Refusal};
use escher_client::protocol::{Request, Response};
use escher_client::{
    ApiError, CancelAnswer, CancelMode, Client, ConnectError, Error, ErrorCode, ExecutionId,
    ExecutionRequest, OutputStream, ProtocolViolation, ReconnectEvent, Reloaded, Removed,
    Selection, SignalAnswer, Submitted,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item, record_response};
use escher_tests::samples::{daemon_info, record};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// A reconnect timeout for outages that do not end, shorter than the client's pause between attempts.
const SHORT_TIMEOUT: Duration = Duration::from_millis(50);

const SUBMITTED: Submitted = Submitted {
    id: ExecutionId::from_bytes([1; 16]),
    number: 1,
    existing: false,
};

fn with_key(key: Option<&str>) -> ExecutionRequest {
    ExecutionRequest {
        key: key.map(Into::into),
        ..ExecutionRequest::default()
    }
}

/// Reads a request, closes the connection, and answers the same request on the next connection.
async fn answer_after_connection_loss(
    daemon: &FakeDaemon,
    mut server: ServerConnection,
    answer: Result<Response, ApiError>,
) {
    let (_, first) = server.request().await;
    drop(server);
    let mut server = daemon.accept().await;
    let (id, second) = server.request().await;
    assert_eq!(first, second);
    server.reply(id, answer).await;
}

/// Sends a request whose first connection is lost. Returns the answer of the second.
async fn call_over_connection_loss<T>(
    answer: Result<Response, ApiError>,
    ask: impl AsyncFnOnce(&Client) -> Result<T, Error>,
) -> T {
    let daemon = FakeDaemon::start();
    let (client, server) = daemon.connect().await;
    let (asked, ()) = tokio::join!(
        ask(&client),
        answer_after_connection_loss(&daemon, server, answer)
    );
    asked.unwrap()
}

#[tokio::test]
async fn sends_idempotent_requests_again() {
    let found = call_over_connection_loss(Ok(record_response(1)), async |client| {
        client.get_status("1").await
    })
    .await;
    assert_eq!(found.number, 1);
    let ended = call_over_connection_loss(Ok(record_response(1)), async |client| {
        client.wait_for_completion("1").await
    })
    .await;
    assert_eq!(ended.number, 1);
    let about = Ok(Response::Info(Box::new(daemon_info())));
    assert_eq!(
        call_over_connection_loss(about, Client::info).await,
        daemon_info()
    );
    let ending = Ok(Response::Cancel(CancelAnswer::AlreadyEnding));
    let cancel = async |client: &Client| client.cancel("1", CancelMode::Kill).await;
    assert_eq!(
        call_over_connection_loss(ending, cancel).await,
        CancelAnswer::AlreadyEnding
    );
    let accepted = Ok(Response::StdinAccepted { offset: 8 });
    let write = async |client: &Client| client.write_stdin("1", 5, "abc", true).await;
    assert_eq!(call_over_connection_loss(accepted, write).await, 8);
    let submit = async |client: &Client| client.execute(with_key(Some("k"))).await;
    let answer = Ok(Response::Submitted(SUBMITTED));
    assert_eq!(call_over_connection_loss(answer, submit).await, SUBMITTED);
    let removed = Removed {
        executions: 3,
        log_bytes: 9,
    };
    let prune = async |client: &Client| client.prune(Selection::default()).await;
    let answer = Ok(Response::Removed(removed));
    assert_eq!(
        call_over_connection_loss(answer.clone(), prune).await,
        removed
    );
    let cleaned_up = call_over_connection_loss(answer, Client::cleanup_old_executions).await;
    assert_eq!(cleaned_up, removed);
    let answer = Ok(Response::Settings(Vec::new()));
    assert_eq!(
        call_over_connection_loss(answer, Client::settings).await,
        []
    );
    let reloaded = Reloaded::default();
    let answer = Ok(Response::Reloaded(reloaded.clone()));
    assert_eq!(
        call_over_connection_loss(answer, Client::reload).await,
        reloaded
    );
}

#[tokio::test]
async fn removal_that_finds_nothing_when_repeated_succeeds() {
    let answer = Err(ApiError::new(ErrorCode::NOT_FOUND, "no execution 1"));
    let remove = async |client: &Client| client.remove_execution("1").await;
    assert_eq!(
        call_over_connection_loss(answer.clone(), remove)
            .await
            .executions,
        1
    );

    // Without a repetition it is an error.
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (removed, ()) = tokio::join!(client.remove_execution("1"), async {
        let (id, _) = server.request().await;
        server.reply(id, answer).await;
    });
    let error = removed.unwrap_err();
    assert_eq!(error.as_api().unwrap().code, ErrorCode::NOT_FOUND);
}

#[tokio::test]
async fn does_not_send_other_requests_again() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (failed, ()) = tokio::join!(client.execute(with_key(None)), async {
        server.request().await;
        server.stream.shutdown().await.unwrap();
    });
    assert!(matches!(failed, Err(Error::Disconnected(_))), "{failed:?}");
    assert!(failed.unwrap_err().to_string().contains("is not known"));
    // The loss is known by now, so the next request goes to the next connection.
    let (submitted, ()) = tokio::join!(client.execute(with_key(None)), async {
        let mut server = daemon.accept().await;
        let (id, request) = server.request().await;
        assert!(matches!(request, Request::Submit(_)), "{request:?}");
        server.reply(id, Ok(Response::Submitted(SUBMITTED))).await;
    });
    assert_eq!(submitted.unwrap(), SUBMITTED);
}

/// The serial says that it is the same signal, so that it acts once.
#[tokio::test]
async fn a_repeated_signal_has_the_same_serial_and_no_other_has() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let serial = |request| match request {
        Request::Signal { serial, .. } => serial,
        other => panic!("{other:?}"),
    };
    let sent = || Ok(Response::Signal(SignalAnswer::Sent));
    let (signalled, (first, mut server)) = tokio::join!(client.signal_group("1", 2), async {
        let (_, request) = server.request().await;
        let first = serial(request);
        drop(server);
        let mut server = daemon.accept().await;
        let (id, request) = server.request().await;
        assert_eq!(serial(request), first);
        server.reply(id, sent()).await;
        (first, server)
    });
    assert_eq!(signalled.unwrap(), SignalAnswer::Sent);
    let (signalled, second) = tokio::join!(client.signal("1", 2), async {
        let (id, request) = server.request().await;
        server.reply(id, sent()).await;
        serial(request)
    });
    signalled.unwrap();
    assert_eq!(second.client, first.client);
    assert_ne!(second.number, first.number);
}

#[tokio::test]
async fn requests_made_during_an_outage_wait_for_its_end() {
    let mut daemon = FakeDaemon::start();
    let (sender, mut reported) = mpsc::unbounded_channel();
    let connector = daemon.connector().on_reconnect(move |event| {
        sender.send(event).unwrap();
    });
    let (client, mut server) = daemon.connect_with(connector).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait_for_completion("1").await }
    });
    server.request().await;
    daemon.stop();
    drop(server);
    assert_eq!(reported.recv().await, Some(ReconnectEvent::Waiting));
    let (signalled, ()) = tokio::join!(client.signal("1", 15), async {
        daemon.restart();
        let mut server = daemon.accept().await;
        for _ in 0..2 {
            match server.request().await {
                (id, Request::Signal { .. }) => {
                    let sent = Response::Signal(SignalAnswer::Sent);
                    server.reply(id, Ok(sent)).await;
                }
                (id, Request::Wait(_)) => server.reply(id, Ok(record_response(1))).await,
                other => panic!("{other:?}"),
            }
        }
    });
    signalled.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(reported.recv().await, Some(ReconnectEvent::Reconnected));
}

#[tokio::test]
async fn reconnects_when_escherd_shuts_down() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (ended, ()) = tokio::join!(client.wait_for_completion("1"), async {
        let (id, _) = server.request().await;
        let shutdown = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd shuts down");
        server.reply(id, Err(shutdown)).await;
        // The first connection is still open.
        let mut next = daemon.accept().await;
        let (id, _) = next.request().await;
        next.reply(id, Ok(record_response(1))).await;
    });
    assert_eq!(ended.unwrap().number, 1);
}

/// Stops the daemon while a request is in flight, runs `during_outage`, and answers the request.
async fn reconnects_after(
    mut daemon: FakeDaemon,
    during_outage: impl AsyncFnOnce(&mut FakeDaemon),
) {
    let (client, mut server) = daemon.connect().await;
    let (ended, ()) = tokio::join!(client.wait_for_completion("1"), async {
        server.request().await;
        daemon.stop();
        drop(server);
        during_outage(&mut daemon).await;
        let mut server = daemon.accept().await;
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(1))).await;
    });
    ended.unwrap();
}

/// Lets the client notice that no daemon listens.
async fn let_client_notice() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn notices_a_replaced_socket() {
    reconnects_after(FakeDaemon::start(), async |daemon| {
        let_client_notice().await;
        daemon.restart();
    })
    .await;
}

#[tokio::test]
async fn notices_a_new_socket() {
    reconnects_after(FakeDaemon::start(), async |daemon| {
        std::fs::remove_file(daemon.path()).unwrap();
        let_client_notice().await;
        daemon.restart();
    })
    .await;
}

#[tokio::test]
async fn notices_a_new_directory() {
    reconnects_after(FakeDaemon::start_in("run/escher"), async |daemon| {
        let directory = daemon.path().parent().unwrap().to_owned();
        std::fs::remove_dir_all(directory.parent().unwrap()).unwrap();
        let_client_notice().await;
        std::fs::create_dir(directory.parent().unwrap()).unwrap();
        let_client_notice().await;
        std::fs::create_dir(directory).unwrap();
        let_client_notice().await;
        daemon.restart();
    })
    .await;
}

#[tokio::test]
async fn notices_new_permissions() {
    reconnects_after(FakeDaemon::start(), async |daemon| {
        daemon.restart();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(daemon.path(), mode(0o000)).unwrap();
        let_client_notice().await;
        std::fs::set_permissions(daemon.path(), mode(0o660)).unwrap();
    })
    .await;
}

#[tokio::test]
async fn retries_after_a_temporary_refusal() {
    reconnects_after(FakeDaemon::start(), async |daemon| {
        daemon.restart();
        let (mut server, _) = daemon.accept_hello().await;
        server.send(&refusal(ErrorCode::TOO_MANY_CONNECTIONS)).await;
    })
    .await;
}

fn refusal(code: ErrorCode) -> HelloReply {
    HelloReply::Refused(Refusal {
        error: ApiError::new(code, "no"),
        lowest: 7,
        highest: 9,
    })
}

#[tokio::test]
async fn gives_up_after_a_permanent_refusal() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (ended, ()) = tokio::join!(client.wait_for_completion("1"), async {
        server.request().await;
        drop(server);
        let (mut server, _) = daemon.accept_hello().await;
        server.send(&refusal(ErrorCode::UNSUPPORTED_VERSION)).await;
    });
    match ended.unwrap_err() {
        Error::DaemonUnavailable { source, path, .. } => {
            assert!(
                matches!(*source, ConnectError::VersionMismatch { .. }),
                "{source:?}"
            );
            assert_eq!(path, daemon.path());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_requests_share_one_attempt() {
    let mut daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let numbers = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let waiting: Vec<_> = numbers
        .into_iter()
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.wait_for_completion(number).await })
        })
        .collect();
    for _ in numbers {
        server.request().await;
    }
    daemon.stop();
    drop(server);
    daemon.restart();
    let mut server = daemon.accept().await;
    for _ in numbers {
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(1))).await;
    }
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn timeout_fails_all_waiting_requests_and_later_ones_do_not_wait() {
    // A slow machine may let a short timeout expire before the client has begun to wait.
    for timeout_ms in [50, 2_000, 60_000] {
        let events = times_out(Duration::from_millis(timeout_ms)).await;
        if !events.is_empty() {
            assert_eq!(events, [ReconnectEvent::Waiting, ReconnectEvent::GaveUp]);
            return;
        }
    }
    panic!("no outage was reported");
}

/// Lets a reconnect timeout expire, and checks what fails. Returns what was reported meanwhile.
async fn times_out(timeout: Duration) -> Vec<ReconnectEvent> {
    let mut daemon = FakeDaemon::start();
    let events = Arc::new(Mutex::new(Vec::new()));
    let connector = daemon.connector().reconnect_timeout(timeout).on_reconnect({
        let events = Arc::clone(&events);
        move |event| events.lock().unwrap().push(event)
    });
    let (client, mut server) = daemon.connect_with(connector).await;
    let follow = client.follow("1", Default::default()).await;
    let mut follow = follow.unwrap();
    let (waited, followed, ()) =
        tokio::join!(client.wait_for_completion("1"), follow.next(), async {
            server.request().await;
            server.request().await;
            daemon.stop();
            drop(server);
        });
    for error in [waited.unwrap_err(), followed.unwrap().unwrap_err()] {
        match &error {
            Error::DaemonUnavailable { waited, source, .. } => {
                assert_eq!(*waited, timeout);
                assert!(matches!(**source, ConnectError::NoDaemon { .. }));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(follow.next().await.is_none());
    let events = std::mem::take(&mut *events.lock().unwrap());

    let later = client.get_status("1").await;
    assert!(
        matches!(later, Err(Error::DaemonUnavailable { .. })),
        "{later:?}"
    );
    // The client works again once the daemon does.
    daemon.restart();
    let (back, ()) = tokio::join!(client.get_status("1"), async {
        let mut server = daemon.accept().await;
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(1))).await;
    });
    back.unwrap();
    events
}

#[tokio::test]
async fn gives_up_on_a_daemon_that_drops_every_connection() {
    let daemon = FakeDaemon::start();
    let connector = daemon.connector().reconnect_timeout(SHORT_TIMEOUT);
    let (client, server) = daemon.connect_with(connector).await;
    drop(server);
    let mut connections = 0;
    let waited = tokio::select! {
        waited = client.wait_for_completion("1") => waited,
        () = async {
            loop {
                drop(daemon.accept().await);
                connections += 1;
            }
        } => unreachable!(),
    };
    let unavailable = matches!(waited, Err(Error::DaemonUnavailable { .. }));
    assert!(unavailable, "{waited:?}");
    // None, if a slow machine lets the timeout expire before.
    assert!(connections <= 1, "{connections}");
}

#[tokio::test]
async fn does_not_reconnect_after_a_protocol_violation() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (waited, ()) = tokio::join!(client.wait_for_completion("1"), async {
        let (id, _) = server.request().await;
        server
            .item(id, output_item(OutputStream::Stdout, 0, 1))
            .await;
    });
    let wrong = matches!(
        waited,
        Err(Error::Protocol(
            ProtocolViolation::UnexpectedResponse { .. }
        ))
    );
    assert!(wrong, "{waited:?}");
    assert!(matches!(client.info().await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn resolves_a_target_that_may_change_its_meaning() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    // "nightly" and "1234" may mean another execution later; "123" is always a number.
    for reference in ["nightly", "1234"] {
        let (waited, ()) = tokio::join!(client.wait_for_completion(reference), async {
            let (id, request) = server.request().await;
            assert_eq!(request, Request::Status(reference.into()));
            server.reply(id, Ok(record_response(7))).await;
            let (id, request) = server.request().await;
            assert_eq!(request, Request::Wait(record(7).id.into()));
            server.reply(id, Ok(record_response(7))).await;
        });
        waited.unwrap();
    }
    for reference in ["123", &record(7).id.to_string()] {
        let (waited, ()) = tokio::join!(client.wait_for_completion(reference), async {
            let (id, request) = server.request().await;
            assert!(matches!(request, Request::Wait(_)), "{request:?}");
            server.reply(id, Ok(record_response(7))).await;
        });
        waited.unwrap();
    }
}
