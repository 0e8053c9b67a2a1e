//! Riding through the absence of escherd: what is asked again, and what is not; how its return is
//! noticed, and when it is no longer waited for.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_client::protocol::handshake::{HelloReply, Refusal};
use escher_client::protocol::{Request, Response};
use escher_client::{
    ApiError, CancelMode, CancelOutcome, Client, ConnectError, Error, ErrorCode, ExecutionId,
    ExecutionRequest, OutputStream, ProtocolViolation, ReconnectEvent, Reloaded, Removed,
    Selection, Submitted,
};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection, output_item, record_response};
use escher_tests::samples::{daemon_info, record};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Short, for outages that are not to end.
const BRIEF: Duration = Duration::from_millis(50);

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

/// Takes a request, hangs up without an answer, and answers the same one on the next connection.
async fn answer_the_second(
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

async fn asked_twice<T>(
    answer: Result<Response, ApiError>,
    ask: impl AsyncFnOnce(&Client) -> Result<T, Error>,
) -> T {
    let daemon = FakeDaemon::start();
    let (client, server) = daemon.connect().await;
    let (asked, ()) = tokio::join!(ask(&client), answer_the_second(&daemon, server, answer));
    asked.unwrap()
}

#[tokio::test]
async fn what_does_no_harm_is_asked_again() {
    let found = asked_twice(Ok(record_response(1)), async |client| {
        client.get_status("1").await
    })
    .await;
    assert_eq!(found.number, 1);
    let ended = asked_twice(Ok(record_response(1)), async |client| {
        client.wait_for_completion("1").await
    })
    .await;
    assert_eq!(ended.number, 1);
    let about = Ok(Response::Info(Box::new(daemon_info())));
    assert_eq!(asked_twice(about, Client::info).await, daemon_info());
    let ending = Ok(Response::Cancel(CancelOutcome::AlreadyEnding));
    let cancel = async |client: &Client| client.cancel("1", CancelMode::Kill).await;
    assert_eq!(
        asked_twice(ending, cancel).await,
        CancelOutcome::AlreadyEnding
    );
    let accepted = Ok(Response::StdinAccepted { offset: 8 });
    let write = async |client: &Client| client.write_stdin("1", 5, "abc", true).await;
    assert_eq!(asked_twice(accepted, write).await, 8);
    let submit = async |client: &Client| client.execute(with_key(Some("k"))).await;
    let answer = Ok(Response::Submitted(SUBMITTED));
    assert_eq!(asked_twice(answer, submit).await, SUBMITTED);
    let removed = Removed {
        executions: 3,
        log_bytes: 9,
    };
    let prune = async |client: &Client| client.prune(Selection::default()).await;
    let answer = Ok(Response::Removed(removed));
    assert_eq!(asked_twice(answer.clone(), prune).await, removed);
    let cleaned_up = asked_twice(answer, Client::cleanup_old_executions).await;
    assert_eq!(cleaned_up, removed);
    let answer = Ok(Response::Settings(Vec::new()));
    assert_eq!(asked_twice(answer, Client::settings).await, []);
    let reloaded = Reloaded::default();
    let answer = Ok(Response::Reloaded(reloaded.clone()));
    assert_eq!(asked_twice(answer, Client::reload).await, reloaded);
}

#[tokio::test]
async fn what_a_repeat_does_not_find_any_more_was_removed() {
    let answer = Err(ApiError::new(ErrorCode::NOT_FOUND, "no execution 1"));
    let remove = async |client: &Client| client.remove_execution("1").await;
    assert_eq!(asked_twice(answer.clone(), remove).await.executions, 1);

    // The first time it was simply never there.
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
async fn what_may_have_been_done_is_not_asked_again() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    for number in 1..3 {
        let (failed, ()) = tokio::join!(
            async {
                match number {
                    1 => client.execute(with_key(None)).await.map(drop),
                    _ => client.signal("1", 15).await,
                }
            },
            async {
                server.request().await;
                server.stream.shutdown().await.unwrap();
            }
        );
        assert!(matches!(failed, Err(Error::Disconnected(_))), "{failed:?}");
        assert!(failed.unwrap_err().to_string().contains("is not known"));
        // The loss is known: what is asked now was never on its way over the lost connection.
        let (submitted, next) = tokio::join!(client.execute(with_key(None)), async {
            let mut server = daemon.accept().await;
            let (id, request) = server.request().await;
            assert!(matches!(request, Request::Submit(_)), "{request:?}");
            server.reply(id, Ok(Response::Submitted(SUBMITTED))).await;
            server
        });
        assert_eq!(submitted.unwrap(), SUBMITTED);
        server = next;
    }
}

#[tokio::test]
async fn a_request_of_an_outage_waits_for_its_end_even_if_it_may_not_be_repeated() {
    let mut daemon = FakeDaemon::start();
    let (outages, mut began) = mpsc::unbounded_channel();
    let connector = daemon.connector().on_reconnect(move |outage| {
        outages.send(outage).unwrap();
    });
    let (client, mut server) = daemon.connect_with(connector).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait_for_completion("1").await }
    });
    server.request().await;
    daemon.stop();
    drop(server);
    assert_eq!(began.recv().await, Some(ReconnectEvent::Waiting));
    let (signalled, ()) = tokio::join!(client.signal("1", 15), async {
        daemon.restart();
        let mut server = daemon.accept().await;
        for _ in 0..2 {
            match server.request().await {
                (id, Request::Signal { .. }) => server.reply(id, Ok(Response::Done)).await,
                (id, Request::Wait(_)) => server.reply(id, Ok(record_response(1))).await,
                other => panic!("{other:?}"),
            }
        }
    });
    signalled.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(began.recv().await, Some(ReconnectEvent::Reconnected));
}

#[tokio::test]
async fn an_escherd_that_stops_is_as_good_as_gone() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (ended, ()) = tokio::join!(client.wait_for_completion("1"), async {
        let (id, _) = server.request().await;
        let stops = ApiError::new(ErrorCode::SHUTTING_DOWN, "escherd is about to stop");
        server.reply(id, Err(stops)).await;
        // The old connection is still open.
        let mut next = daemon.accept().await;
        let (id, _) = next.request().await;
        next.reply(id, Ok(record_response(1))).await;
    });
    assert_eq!(ended.unwrap().number, 1);
}

/// Loses the connection while a request is under way, does something, and answers the request.
async fn returns_after(mut daemon: FakeDaemon, away: impl AsyncFnOnce(&mut FakeDaemon)) {
    let (client, mut server) = daemon.connect().await;
    let (ended, ()) = tokio::join!(client.wait_for_completion("1"), async {
        server.request().await;
        daemon.stop();
        drop(server);
        away(&mut daemon).await;
        let mut server = daemon.accept().await;
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(1))).await;
    });
    ended.unwrap();
}

/// Lets the client find out that nobody is there.
async fn linger() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_socket_that_refused_is_replaced() {
    returns_after(FakeDaemon::start(), async |daemon| {
        linger().await;
        daemon.restart();
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_was_removed_appears_again() {
    returns_after(FakeDaemon::start(), async |daemon| {
        std::fs::remove_file(daemon.path()).unwrap();
        linger().await;
        daemon.restart();
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_was_removed_appears_again() {
    returns_after(FakeDaemon::start_in("run/escher"), async |daemon| {
        let directory = daemon.path().parent().unwrap().to_owned();
        std::fs::remove_dir_all(directory.parent().unwrap()).unwrap();
        linger().await;
        std::fs::create_dir(directory.parent().unwrap()).unwrap();
        linger().await;
        std::fs::create_dir(directory).unwrap();
        linger().await;
        daemon.restart();
    })
    .await;
}

#[tokio::test]
async fn a_new_socket_that_is_still_closed_is_awaited() {
    returns_after(FakeDaemon::start(), async |daemon| {
        daemon.restart();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(daemon.path(), mode(0o000)).unwrap();
        linger().await;
        std::fs::set_permissions(daemon.path(), mode(0o660)).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_followed_by_another_attempt() {
    returns_after(FakeDaemon::start(), async |daemon| {
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
async fn a_refusal_that_lasts_ends_the_waiting() {
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
async fn one_attempt_serves_all_who_wait() {
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
async fn after_the_deadline_all_who_wait_are_told_and_later_ones_do_not_wait() {
    let mut daemon = FakeDaemon::start();
    let told = Arc::new(Mutex::new(Vec::new()));
    let connector = daemon.connector().reconnect_timeout(BRIEF).on_reconnect({
        let told = Arc::clone(&told);
        move |outage| told.lock().unwrap().push(outage)
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
                assert_eq!(*waited, BRIEF);
                assert!(matches!(**source, ConnectError::NoDaemon { .. }));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(follow.next().await.is_none());
    assert_eq!(
        *told.lock().unwrap(),
        [ReconnectEvent::Waiting, ReconnectEvent::GaveUp]
    );

    let later = client.get_status("1").await;
    assert!(
        matches!(later, Err(Error::DaemonUnavailable { .. })),
        "{later:?}"
    );
    // It is of use again when escherd is back.
    daemon.restart();
    let (back, ()) = tokio::join!(client.get_status("1"), async {
        let mut server = daemon.accept().await;
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(1))).await;
    });
    back.unwrap();
}

#[tokio::test]
async fn an_escherd_that_drops_every_connection_is_not_asked_for_ever() {
    let daemon = FakeDaemon::start();
    let connector = daemon.connector().reconnect_timeout(BRIEF);
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
    let gone = matches!(waited, Err(Error::DaemonUnavailable { .. }));
    assert!(gone, "{waited:?}");
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_broken_protocol_is_not_connected_to_again() {
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
async fn a_name_is_asked_for_its_id_before_what_may_be_repeated() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    // "nightly" and "1234" may mean another one later; "123" may not.
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
