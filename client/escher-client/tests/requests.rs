//! Requests and responses on one connection.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use escher_client::protocol::message::CLOSING_FRAME_ID;
use escher_client::protocol::{ClientFrame, Item, Request, Response};
use escher_client::{
    ApiError, CancelAnswer, CancelMode, Command, DaemonInfo, Error, ErrorCode, ExecutionRecord,
    ExecutionRequest, ListFilter, ProtocolViolation, SignalAnswer, Target,
};
use escher_tests::fake_daemon::{FakeDaemon, record_response};
use escher_tests::samples::{daemon_info, record};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn responses_may_arrive_in_any_order() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let ask = async |number: &'static str| client.get_status(number).await.unwrap().number;
    let (one, two, three, ()) = tokio::join!(ask("1"), ask("2"), ask("3"), async {
        let mut asked = Vec::new();
        for _ in 0..3 {
            match server.request().await {
                (id, Request::Status(Target::Reference(text))) => {
                    asked.push((id, text.parse().unwrap()));
                }
                other => panic!("{other:?}"),
            }
        }
        for (id, number) in asked.into_iter().rev() {
            server.reply(id, Ok(record_response(number))).await;
        }
    });
    assert_eq!((one, two, three), (1, 2, 3));
}

#[tokio::test]
async fn api_error_is_returned_to_its_request() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (cancelled, signalled, ()) = tokio::join!(
        client.cancel("7", CancelMode::Kill),
        client.signal("7", 15),
        async {
            let (id, _) = server.request().await;
            let error = ApiError::new(ErrorCode::NOT_FOUND, "no execution 7");
            server.reply(id, Err(error)).await;
            let (id, _) = server.request().await;
            let sent = Response::Signal(SignalAnswer::Sent);
            server.reply(id, Ok(sent)).await;
        }
    );
    let error = cancelled.unwrap_err();
    assert_eq!(error.as_api().unwrap().code, ErrorCode::NOT_FOUND);
    signalled.unwrap();
}

#[tokio::test]
async fn counts_come_from_the_daemon_info() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (running, total, ()) = tokio::join!(client.running_count(), client.total_count(), async {
        for _ in 0..2 {
            let (id, _) = server.request().await;
            let info = DaemonInfo {
                pending: 3,
                running: 4,
                finished: 50,
                ..daemon_info()
            };
            server.reply(id, Ok(Response::Info(Box::new(info)))).await;
        }
    });
    assert_eq!((running.unwrap(), total.unwrap()), (4, 57));
}

#[tokio::test]
async fn log_path_may_be_any_bytes() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let odd = OsStr::from_bytes(b"/l/\xff.log");
    let (path, ()) = tokio::join!(client.get_log_path("1"), async {
        let (id, _) = server.request().await;
        let record = ExecutionRecord {
            log_path: odd.into(),
            ..record(1)
        };
        server
            .reply(id, Ok(Response::Execution(Box::new(record))))
            .await;
    });
    assert_eq!(path.unwrap(), odd);
}

#[tokio::test]
async fn dropping_a_future_abandons_its_request() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait_for_completion("1").await }
    });
    let (abandoned, _) = server.request().await;
    waiting.abort();
    assert_eq!(
        server.frame().await,
        Some(ClientFrame::Abandon { id: abandoned })
    );

    // A response that was already sent is ignored.
    server.reply(abandoned, Ok(record_response(1))).await;
    let (two, ()) = tokio::join!(client.get_status("2"), async {
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(2))).await;
    });
    assert_eq!(two.unwrap().number, 2);
}

#[tokio::test]
async fn waits_while_the_maximum_of_requests_is_in_flight() {
    let mut daemon = FakeDaemon::start();
    daemon.limits.max_requests_in_flight = 1;
    let (client, mut server) = daemon.connect().await;
    let executions = client.list_executions(ListFilter::default()).await.unwrap();
    let (listed, _) = server.request().await;
    let info = tokio::spawn({
        let client = client.clone();
        async move { client.cancel("1", CancelMode::Graceful).await }
    });
    tokio::task::yield_now().await;
    drop(executions);
    assert_eq!(
        server.frame().await,
        Some(ClientFrame::Abandon { id: listed })
    );
    let (id, _) = server.request().await;
    server
        .reply(id, Ok(Response::Cancel(CancelAnswer::Ending)))
        .await;
    assert_eq!(info.await.unwrap().unwrap(), CancelAnswer::Ending);
}

#[tokio::test]
async fn does_not_send_a_request_larger_than_a_frame() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: vec![vec![b'x'; 200_000].into()],
        },
        ..ExecutionRequest::default()
    };
    match client.execute(request).await {
        Err(Error::RequestTooLarge { length, limit }) => {
            assert!(length > 200_000);
            assert_eq!(limit, 100_000);
        }
        other => panic!("{other:?}"),
    }
    let (asked, ()) = tokio::join!(client.get_status("1"), async {
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(1))).await;
    });
    asked.unwrap();
}

/// It ended the connection of all.
#[tokio::test]
async fn a_request_that_the_protocol_cannot_carry_is_not_sent() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: vec!["x".into(); 300_000],
        },
        ..ExecutionRequest::default()
    };
    let refused = client.execute(request).await;
    assert!(
        matches!(
            refused,
            Err(Error::ListTooLong {
                length: 300_000,
                ..
            })
        ),
        "{refused:?}"
    );
    let (asked, ()) = tokio::join!(client.get_status("1"), async {
        let (id, _) = server.request().await;
        server.reply(id, Ok(record_response(1))).await;
    });
    asked.unwrap();
}

#[tokio::test]
async fn the_reason_for_which_escherd_ends_a_connection_reaches_every_request() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let ask = |number: &'static str| client.get_status(number);
    let (one, two, ()) = tokio::join!(ask("1"), ask("2"), async {
        let _ = (server.request().await, server.request().await);
        let reason = ApiError::new(ErrorCode::PROTOCOL, "no frame");
        server.end(CLOSING_FRAME_ID, Err(reason)).await;
        drop(server);
    });
    for asked in [one, two, ask("3").await] {
        assert_eq!(&*asked.unwrap_err().as_api().unwrap().message, "no frame");
    }
}

/// They waited for ever.
#[test]
fn requests_after_the_end_of_the_runtime_of_their_client_fail() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let daemon = {
        let _context = first.enter();
        FakeDaemon::start()
    };
    let connector = daemon.connector().reconnect_timeout(Duration::ZERO);
    let (client, server) = first.block_on(daemon.connect_with(connector));
    drop((server, first));
    let asked = runtime().block_on(client.get_status("1"));
    assert!(matches!(asked, Err(Error::Disconnected(_))), "{asked:?}");
}

#[tokio::test]
async fn connection_loss_is_final_without_a_reconnect_timeout() {
    let daemon = FakeDaemon::start();
    let connector = daemon.connector().reconnect_timeout(Duration::ZERO);
    let (client, mut server) = daemon.connect_with(connector).await;
    let mut executions = client.list_executions(ListFilter::default()).await.unwrap();
    let (id, _) = server.request().await;
    server.item(id, Item::Execution(Box::new(record(1)))).await;
    let (waited, ()) = tokio::join!(client.wait_for_completion("1"), async {
        server.request().await;
        drop(server);
    });
    assert!(matches!(waited, Err(Error::Disconnected(_))), "{waited:?}");
    // Items received before are still returned.
    assert_eq!(executions.next().await.unwrap().unwrap().number, 1);
    let end = executions.next().await.unwrap();
    assert!(matches!(end, Err(Error::Disconnected(_))), "{end:?}");
    assert!(executions.next().await.is_none());
    let later = client.info().await;
    assert!(matches!(later, Err(Error::Disconnected(_))), "{later:?}");
}

#[tokio::test]
async fn invalid_frames_end_the_connection() {
    let invalid_frames: [&[u8]; 3] = [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\x09\x09",
        b"\x00\x00\x00\x00",
    ];
    for bytes in invalid_frames {
        let daemon = FakeDaemon::start();
        let (client, mut server) = daemon.connect().await;
        let (waited, ()) = tokio::join!(client.wait_for_completion("1"), async {
            server.request().await;
            server.stream.write_all(bytes).await.unwrap();
        });
        let frame = matches!(waited, Err(Error::Protocol(ProtocolViolation::Frame(_))));
        assert!(frame, "{waited:?}");
    }
}

#[tokio::test]
async fn response_of_another_type_is_an_error() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (asked, ()) = tokio::join!(client.get_status("1"), async {
        let (id, _) = server.request().await;
        server.reply(id, Ok(Response::Done)).await;
    });
    let wrong = matches!(
        asked,
        Err(Error::Protocol(
            ProtocolViolation::UnexpectedResponse { .. }
        ))
    );
    assert!(wrong, "{asked:?}");
}

#[tokio::test]
async fn connection_closes_with_its_last_user() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let executions = client.list_executions(ListFilter::default()).await.unwrap();
    server.request().await;
    drop(client);
    drop(executions);
    let rest = server.frame().await;
    assert!(
        matches!(rest, None | Some(ClientFrame::Abandon { .. })),
        "{rest:?}"
    );
    if rest.is_some() {
        assert_eq!(server.frame().await, None);
    }
}
