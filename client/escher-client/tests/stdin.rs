//! Writing a command's standard input.
#![allow(clippy::unwrap_used)]

use escher_client::protocol::{Request, RequestId, Response};
use escher_client::{ApiError, ErrorCode};
use escher_tests::fake_daemon::{FakeDaemon, ServerConnection};

/// Reads a request that writes input: its id, the offset, the data, and whether it is the end.
async fn expect_write(server: &mut ServerConnection) -> (RequestId, u64, Vec<u8>, bool) {
    match server.request().await {
        (
            id,
            Request::WriteStdin {
                offset, data, end, ..
            },
        ) => (id, offset, data.into_vec(), end),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn long_input_is_sent_in_pieces_of_which_few_are_in_flight() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let (written, arrived) = tokio::join!(
        async {
            let mut stdin = client.stdin("1");
            stdin.write(&data).await.unwrap();
            assert_eq!(stdin.offset(), 1_000_000);
            stdin.finish().await.unwrap()
        },
        async {
            let mut arrived = Vec::new();
            let mut unanswered = std::collections::VecDeque::new();
            loop {
                let (id, offset, data, end) = expect_write(&mut server).await;
                assert_eq!(offset, arrived.len() as u64);
                assert!(data.len() <= 64 * 1024);
                arrived.extend(data);
                unanswered.push_back((id, arrived.len() as u64));
                if end || unanswered.len() == 4 {
                    while let Some((id, offset)) = unanswered.pop_front() {
                        let accepted = Response::StdinAccepted { offset };
                        server.reply(id, Ok(accepted)).await;
                    }
                }
                if end {
                    return arrived;
                }
            }
        }
    );
    assert_eq!(written, 1_000_000);
    assert_eq!(arrived, data);
}

#[tokio::test]
async fn write_fails_when_the_command_has_closed_its_input() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (written, ()) = tokio::join!(
        async {
            let mut stdin = client.stdin("1");
            stdin.write(&vec![0; 1_000_000]).await
        },
        async {
            let (id, ..) = expect_write(&mut server).await;
            let error = ApiError::new(ErrorCode::STDIN_CLOSED, "the command has closed its input");
            server.reply(id, Err(error)).await;
        }
    );
    let error = written.unwrap_err();
    assert_eq!(error.as_api().unwrap().code, ErrorCode::STDIN_CLOSED);
}

#[tokio::test]
async fn write_stdin_returns_the_acknowledged_offset() {
    let daemon = FakeDaemon::start();
    let (client, mut server) = daemon.connect().await;
    let (accepted, ()) = tokio::join!(client.write_stdin("1", 5, "abc", true), async {
        let (id, offset, data, end) = expect_write(&mut server).await;
        assert_eq!((offset, &data[..], end), (5, &b"abc"[..], true));
        server
            .reply(id, Ok(Response::StdinAccepted { offset: 8 }))
            .await;
    });
    assert_eq!(accepted.unwrap(), 8);
}
