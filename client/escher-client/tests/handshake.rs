//! Connecting and the handshake, and how they fail.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use escher_client::protocol::handshake::{HelloReply, Refusal};
use escher_client::{ApiError, Client, ConnectError, Connector, ErrorCode, ProtocolViolation};
use escher_tests::fake_daemon::FakeDaemon;
use tokio::io::AsyncWriteExt;

fn refusal(code: ErrorCode) -> HelloReply {
    HelloReply::Refused(Refusal {
        error: ApiError::new(code, "no"),
        lowest: 7,
        highest: 9,
    })
}

#[tokio::test]
async fn sends_its_name_and_returns_the_welcome() {
    let daemon = FakeDaemon::start();
    let connector = Connector::new(daemon.path()).client_name("backup 2.1");
    let (client, hello) = tokio::join!(connector.connect(), async {
        let (mut server, hello) = daemon.accept_hello().await;
        server.send(&HelloReply::Welcome(daemon.welcome())).await;
        hello
    });
    assert_eq!(hello.client.as_str(), "backup 2.1");
    assert_eq!(client.unwrap().welcome(), daemon.welcome());
}

#[tokio::test]
async fn without_a_daemon_the_error_names_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.sock");
    let error = Client::connect(&path).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoDaemon { .. }), "{error:?}");
    assert_eq!(error.path(), path);

    // The socket of a daemon that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Client::connect(&path).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoDaemon { .. }), "{error:?}");
}

#[tokio::test]
async fn reports_a_path_that_is_no_stream_socket() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Client::connect(file.path()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::NotASocket { .. }),
        "{error:?}"
    );
    let datagrams = tempfile::tempdir().unwrap();
    let path = datagrams.path().join("s");
    let _socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let error = Client::connect(&path).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::NotASocket { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn reports_a_directory_without_permission() {
    let daemon = FakeDaemon::start();
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(daemon.directory(), closed).unwrap();
    if std::fs::metadata(daemon.path()).is_ok() {
        eprintln!("skipped: this user may search every directory");
        return;
    }
    let connected = Client::connect(daemon.path()).await;
    let open = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(daemon.directory(), open).unwrap();
    let error = connected.unwrap_err();
    assert!(
        matches!(error, ConnectError::PermissionDenied { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn version_mismatch_names_both_ranges() {
    let daemon = FakeDaemon::start();
    let reply = refusal(ErrorCode::UNSUPPORTED_VERSION);
    let error = daemon.connect_replying(&reply).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::VersionMismatch { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("7 to 9"), "{error}");
    assert!(error.to_string().contains("1 to 1"), "{error}");
}

#[tokio::test]
async fn refusal_has_its_reason() {
    let daemon = FakeDaemon::start();
    let reply = refusal(ErrorCode::TOO_MANY_CONNECTIONS);
    match daemon.connect_replying(&reply).await {
        Err(ConnectError::Refused { refusal, .. }) => {
            assert_eq!(refusal.error.code, ErrorCode::TOO_MANY_CONNECTIONS);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rejects_a_version_that_was_not_offered() {
    let daemon = FakeDaemon::start();
    let mut welcome = daemon.welcome();
    welcome.version = 2;
    match daemon.connect_replying(&HelloReply::Welcome(welcome)).await {
        Err(ConnectError::Protocol { violation, .. }) => {
            assert!(
                matches!(violation, ProtocolViolation::VersionNotOffered(2)),
                "{violation:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rejects_an_invalid_welcome() {
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x10\x01",
        b"\x00\x00\x00\x01\xff",
        b"\x00\x00",
    ];
    for answer in answers {
        let daemon = FakeDaemon::start();
        let connector = Connector::new(daemon.path()).reconnect_timeout(Duration::ZERO);
        let (connected, ()) = tokio::join!(connector.connect(), async {
            let (mut server, _) = daemon.accept_hello().await;
            server.stream.write_all(answer).await.unwrap();
        });
        let error = connected.unwrap_err();
        assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn times_out_on_a_silent_daemon() {
    let daemon = FakeDaemon::start();
    let limit = Duration::from_millis(20);
    let connector = Connector::new(daemon.path()).connect_timeout(limit);
    // The listener's backlog takes the connection, and nothing accepts it.
    match connector.connect().await {
        Err(ConnectError::Timeout { timeout, .. }) => assert_eq!(timeout, limit),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rejects_a_client_name_larger_than_the_handshake_frame() {
    let daemon = FakeDaemon::start();
    let connector = Connector::new(daemon.path()).client_name("x".repeat(5_000));
    match connector.connect().await {
        Err(ConnectError::Io { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::InvalidInput);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn waits_for_a_daemon_that_closes_during_the_handshake() {
    let daemon = FakeDaemon::start();
    let (connected, _peer) = tokio::join!(daemon.connector().connect(), async {
        let (server, _) = daemon.accept_hello().await;
        drop(server);
        daemon.accept().await
    });
    connected.unwrap();
}

#[tokio::test]
async fn waits_while_the_backlog_is_full() {
    use nix::sys::socket::*;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_NONBLOCK,
        None,
    )
    .unwrap();
    let address = UnixAddr::new(&path).unwrap();
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).unwrap();
    listen(&socket, Backlog::new(0).unwrap()).unwrap();
    let filler = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let listener = tokio::net::UnixListener::from_std(socket.into()).unwrap();

    let connector = Connector::new(&path)
        .connect_timeout(Duration::from_secs(60))
        .reconnect_timeout(Duration::ZERO);
    let connecting = tokio::spawn(connector.connect());
    // Let the client find the backlog full first.
    tokio::task::yield_now().await;
    let (first, _) = listener.accept().await.unwrap();
    drop((first, filler));
    let (second, _) = listener.accept().await.unwrap();
    drop(second);
    let error = connecting.await.unwrap().unwrap_err();
    // The client has connected, and the listener has closed the connection.
    let closed = matches!(
        &error,
        ConnectError::Protocol {
            violation: ProtocolViolation::ConnectionClosed,
            ..
        }
    ) || matches!(error, ConnectError::Io { .. });
    assert!(closed, "{error:?}");
}
