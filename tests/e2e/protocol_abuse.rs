//! Peers that violate the protocol are disconnected, and nobody else notices.

use std::collections::BTreeSet;

use escher_client::{Error, ErrorCode, ListFilter, OutputStart, StreamSelection, Target};
use escher_protocol::handshake::{HelloReply, MAX_HANDSHAKE_BYTES};
use escher_protocol::message::{EventsRequest, OutputRequest, Response};
use escher_protocol::{Request, RequestId, ServerFrame};
use escher_tests::{
    Daemon, HeldConnections, Metrics, RawPeer, connect, exec, hold_connections, in_runtime,
    report_skipped, resident_bytes, watch,
};
use nix::sys::resource::{Resource, getrlimit};

/// Checks that escherd serves others.
fn assert_serves(daemon: &Daemon) {
    assert_eq!(
        daemon.ctl().run(["run", "echo", "well"]).expect(0).out(),
        "well\n"
    );
}

/// Receives the reason for which escherd refuses a handshake.
fn receive_refusal(peer: &mut RawPeer) -> ErrorCode {
    match peer.receive_hello_reply() {
        Some(HelloReply::Refused(refusal)) => {
            assert_eq!(
                (refusal.lowest, refusal.highest),
                (1, 1),
                "it names its versions"
            );
            assert_eq!(peer.read_to_end(), 0);
            refusal.error.code
        }
        other => panic!("{other:?}"),
    }
}

/// Receives the error with which escherd closes a connection.
fn receive_last_error(peer: &mut RawPeer) -> ErrorCode {
    let frame = peer.receive_frame().expect("a reason");
    let ServerFrame::End { result, .. } = frame else {
        panic!("{frame:?}");
    };
    assert_eq!(peer.read_to_end(), 0);
    result.unwrap_err().code
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&length.to_be_bytes()[..], payload].concat()
}

#[test]
fn garbage_in_place_of_a_greeting_is_refused() {
    let daemon = Daemon::start();
    let with_header = frame(&[0xff; 100]);
    let trailing = {
        let hello = RawPeer::hello_frame();
        frame(&[&hello[4..], b"x"].concat())
    };
    let wrong_magic = {
        let mut hello = RawPeer::hello_frame();
        hello[5] ^= 1;
        hello
    };
    for (garbage, codes) in [
        (
            &b"get / http/1.1\r\nhost: localhost\r\n\r\n"[..],
            &[ErrorCode::FRAME_TOO_LARGE][..],
        ),
        (&with_header, &[ErrorCode::PROTOCOL]),
        (&trailing, &[ErrorCode::PROTOCOL]),
        (
            &wrong_magic,
            &[ErrorCode::PROTOCOL, ErrorCode::UNSUPPORTED_VERSION],
        ),
        (&frame(b""), &[ErrorCode::PROTOCOL]),
    ] {
        let mut peer = RawPeer::connect(&daemon);
        peer.send(garbage);
        let code = receive_refusal(&mut peer);
        assert!(codes.contains(&code), "{garbage:?}: {code}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_greeting_that_is_too_long_is_refused_by_its_header() {
    let daemon = Daemon::start();
    for length in [MAX_HANDSHAKE_BYTES as u32 + 1, 8 << 20, u32::MAX] {
        let mut peer = RawPeer::connect(&daemon);
        peer.send(&length.to_be_bytes());
        assert_eq!(receive_refusal(&mut peer), ErrorCode::FRAME_TOO_LARGE);
    }
    assert_serves(&daemon);
}

#[test]
fn garbage_after_the_greeting_closes_the_connection() {
    let daemon = Daemon::start();
    for (garbage, code) in [
        (frame(&[0xff; 100]), ErrorCode::PROTOCOL),
        (frame(b""), ErrorCode::PROTOCOL),
        (u32::MAX.to_be_bytes().to_vec(), ErrorCode::FRAME_TOO_LARGE),
        (
            (8 * 1024 * 1024 + 1_u32).to_be_bytes().to_vec(),
            ErrorCode::FRAME_TOO_LARGE,
        ),
    ] {
        let mut peer = RawPeer::connect_and_greet(&daemon);
        peer.send(&garbage);
        assert_eq!(receive_last_error(&mut peer), code);
    }
    // A valid request with one byte too many.
    let mut peer = RawPeer::connect_and_greet(&daemon);
    let request = RawPeer::request_frame(1, Request::Info);
    peer.send(&frame(&[&request[4..], b"x"].concat()));
    assert_eq!(receive_last_error(&mut peer), ErrorCode::PROTOCOL);
    assert_serves(&daemon);
}

/// A peer hangs up after every possible part of a frame.
#[test]
fn incomplete_frames_of_peers_that_hang_up_are_ignored() {
    let daemon = Daemon::start();
    let hello = RawPeer::hello_frame();
    for length in 0..hello.len() {
        let mut peer = RawPeer::connect(&daemon);
        peer.send(&hello[..length]);
        peer.finish_sending();
        peer.read_to_end();
    }
    let request = RawPeer::request_frame(7, Request::Submit(Box::new(exec(["touch", "never"]))));
    for length in 0..request.len() {
        let mut peer = RawPeer::connect_and_greet(&daemon);
        peer.send(&request[..length]);
        peer.finish_sending();
        peer.read_to_end();
    }
    assert_serves(&daemon);
    assert_eq!(
        daemon.ctl().json_lines(["ps", "-a"]).len(),
        1,
        "none of them was a submission"
    );
}

#[test]
fn silent_and_slow_peers_are_disconnected_after_a_while() {
    let daemon = Daemon::start();
    let mut silent = RawPeer::connect(&daemon);
    let mut half_a_header = RawPeer::connect(&daemon);
    half_a_header.send(&[0, 0]);
    let mut half_a_greeting = RawPeer::connect(&daemon);
    half_a_greeting.send(&RawPeer::hello_frame()[..10]);
    let mut half_a_request = RawPeer::connect_and_greet(&daemon);
    half_a_request.send(&RawPeer::request_frame(1, Request::Info)[..5]);
    let idle = RawPeer::connect_and_greet(&daemon);
    assert_serves(&daemon);
    for peer in [&mut silent, &mut half_a_header, &mut half_a_greeting] {
        assert_eq!(receive_refusal(peer), ErrorCode::IDLE);
    }
    assert_eq!(receive_last_error(&mut half_a_request), ErrorCode::IDLE);
    // Between requests a client may be silent.
    let mut idle = idle;
    idle.send(&RawPeer::request_frame(1, Request::Info));
    assert!(matches!(
        idle.receive_frame(),
        Some(ServerFrame::Reply { .. })
    ));
}

#[test]
fn a_thousand_connections_with_announced_frames_cost_little_memory() {
    const PEERS: u64 = 1000;
    let what = "a thousand connections at once";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 2 * PEERS {
        let why = format!("needs a hard limit of {} open files or more", 2 * PEERS);
        report_skipped(&why, what);
        return;
    }
    let daemon = Daemon::start();
    assert_serves(&daemon);
    let before = resident_bytes(daemon.pid()).unwrap();
    // Eight mebibytes are announced, and one byte of them is sent.
    let bytes = [&RawPeer::hello_frame()[..], &[0, 128, 0, 0, 1]].concat();
    let peers = hold_connections(&daemon, PEERS, &bytes);
    assert_serves(&daemon);
    let grown = resident_bytes(daemon.pid()).unwrap().saturating_sub(before);
    assert!(grown <= PEERS * 64 * 1024, "{} bytes each", grown / PEERS);
    peers.close();
    assert_serves(&daemon);
}

#[test]
fn connections_over_the_limit_are_refused_and_root_has_a_reserve() {
    let daemon = Daemon::with_config(
        "[daemon]\nmax_connections = 20\nmax_connections_per_user = 20\nsocket_mode = \"0666\"\n",
    );
    let mut peers = Vec::new();
    let refused = loop {
        let mut peer = RawPeer::connect(&daemon);
        peer.send(&RawPeer::hello_frame());
        match peer.receive_hello_reply() {
            Some(HelloReply::Welcome(_)) => peers.push(peer),
            Some(HelloReply::Refused(refusal)) => break refusal,
            None => panic!("hung up without a reason"),
        }
        assert!(peers.len() <= 100);
    };
    assert_eq!(refused.error.code, ErrorCode::TOO_MANY_CONNECTIONS);
    assert!(refused.error.retry);
    assert!(peers.len() >= 20);
    if nix::unistd::geteuid().is_root() {
        assert!(peers.len() > 20, "root has a reserve");
        let ctl = daemon.ctl().as_user(61_001, 61_001, &[]);
        let ended = ctl.run(["run", "-w", "/", "true"]).expect(125);
        assert!(ended.err().contains("20"), "{ended:?}");
    }
    drop(peers);
    // Connections are accepted again once escherd has noticed that these have ended.
    in_runtime(async {
        loop {
            match escher_client::Client::connect(daemon.home().socket()).await {
                Ok(_) => break,
                Err(escher_client::ConnectError::Refused { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    });
}

#[test]
fn a_flood_of_refused_connections_is_one_line_in_the_log() {
    const ATTEMPTS: u64 = 500;
    let daemon = Daemon::with_config(
        "[daemon]\nmax_connections_per_user = 5\nmax_connections = 50\nsocket_mode = \"0666\"\n",
    );
    let attacker = nix::unistd::geteuid().is_root().then_some(61_001);
    let hello = RawPeer::hello_frame();
    let socket = daemon.home().socket();
    let held = HeldConnections::open(&daemon, attacker, &socket, ATTEMPTS, &hello);
    held.close();
    // Its own user is welcome again once escherd has noticed that these are closed.
    while daemon.ctl().run(["info"]).code != 0 {}
    let refused = Metrics::fetch(&daemon).get("connections_refused_total");
    assert!(refused >= (ATTEMPTS - 5) as f64, "{refused}");
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("refused")).count();
    assert!((1..=3).contains(&lines), "{log}");
}

#[test]
fn many_requests_on_one_connection_are_all_answered() {
    let daemon = Daemon::start();
    let mut peer = RawPeer::connect_and_greet(&daemon);
    let frames: Vec<u8> = (0..200)
        .flat_map(|id| RawPeer::request_frame(id, Request::Info))
        .collect();
    peer.send(&frames);
    let mut answered = BTreeSet::new();
    while answered.len() < 200 {
        match peer.receive_frame() {
            Some(ServerFrame::Reply {
                id,
                result: Ok(Response::Info(_)),
            }) => {
                assert!(answered.insert(id), "{id:?} twice");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn too_many_requests_in_flight_are_refused_one_by_one() {
    let daemon = Daemon::start();
    let mut peer = RawPeer::connect_and_greet(&daemon);
    let events = Request::Events(EventsRequest {
        follow: true,
        ..EventsRequest::default()
    });
    let frames: Vec<u8> = (0..300)
        .flat_map(|id| RawPeer::request_frame(id, events.clone()))
        .collect();
    peer.send(&frames);
    let mut refused = 0;
    while refused < 44 {
        match peer.receive_frame() {
            Some(ServerFrame::Reply {
                result: Err(error), ..
            }) => {
                assert_eq!(error.code, ErrorCode::TOO_MANY_REQUESTS);
                assert!(error.retry);
                refused += 1;
            }
            // Where the events of one begin.
            Some(ServerFrame::Item { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_serves(&daemon);
}

#[test]
fn the_id_of_a_request_in_flight_cannot_be_reused() {
    let daemon = Daemon::start();
    let mut peer = RawPeer::connect_and_greet(&daemon);
    let events = Request::Events(EventsRequest {
        follow: true,
        ..EventsRequest::default()
    });
    peer.send(&RawPeer::request_frame(5, events));
    // Where its events begin.
    assert!(matches!(
        peer.receive_frame(),
        Some(ServerFrame::Item { .. })
    ));
    peer.send(&RawPeer::request_frame(5, Request::Info));
    let Some(ServerFrame::Reply {
        id,
        result: Err(error),
    }) = peer.receive_frame()
    else {
        panic!("an error");
    };
    assert_eq!((id, error.code), (RequestId(5), ErrorCode::PROTOCOL));
    assert_eq!(&*error.message, "the request id 5 is in use");
    peer.send(&RawPeer::request_frame(6, Request::Info));
    assert!(matches!(
        peer.receive_frame(),
        Some(ServerFrame::Reply {
            id: RequestId(6),
            ..
        })
    ));
}

/// A peer that never grants more of a stream gets no more than the first window.
#[test]
fn a_peer_that_grants_nothing_gets_one_window() {
    let daemon = Daemon::start();
    let id = daemon.ctl().submit(["head", "-c", "50000000", "/dev/zero"]);
    daemon.ctl().wait(id, 0);
    let mut peer = RawPeer::connect_and_greet(&daemon);
    let read = Request::ReadOutput(OutputRequest {
        target: Target::Id(id),
        streams: StreamSelection::Both,
        start: OutputStart::Offset(0),
        length: None,
        since: None,
        until: None,
        follow: false,
    });
    peer.send(&RawPeer::request_frame(1, read));
    let mut items = 0_usize;
    // What arrives before the answers to many later requests is all that arrives.
    peer.send(&RawPeer::request_frame(2, Request::Info));
    let mut replies_since_item = 0;
    while replies_since_item < 100 {
        match peer.receive_frame() {
            Some(ServerFrame::Item { .. }) => {
                items += 1;
                replies_since_item = 0;
            }
            Some(ServerFrame::Reply { .. }) if items == 0 => {
                peer.send(&RawPeer::request_frame(2, Request::Info))
            }
            Some(ServerFrame::Reply { .. }) => {
                replies_since_item += 1;
                peer.send(&RawPeer::request_frame(2, Request::Info));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=64).contains(&items), "{items} items without a grant");
}

#[test]
fn a_request_of_almost_eight_mebibytes_is_answered_and_a_longer_one_is_not_sent() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let send = |length| client.execute(exec(vec!["true".to_owned(), "x".repeat(length)]));
        // The kernel would start no program with so long an argument.
        let refused = send(7_900_000).await.unwrap_err();
        let error = refused.as_api().unwrap();
        assert_eq!(error.code, ErrorCode::ARGUMENTS_TOO_LONG);
        let error = send(8_400_000).await.unwrap_err();
        assert!(matches!(error, Error::RequestTooLarge { .. }), "{error}");
    });
}

#[test]
fn a_list_has_the_beginning_of_a_long_command() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = exec(vec!["true".to_owned(), "x".repeat(100_000)]);
        let id = client.execute(request).await.unwrap().id;
        client.wait_for_completion(id).await.unwrap();
        let mut listed = client
            .list_executions(ListFilter {
                all: true,
                ..ListFilter::default()
            })
            .await
            .unwrap();
        assert!(listed.next().await.unwrap().unwrap().command_cut);
    });
}

#[test]
fn peers_that_hang_up_in_the_middle_of_a_stream_harm_nobody() {
    let daemon = Daemon::start();
    let id = daemon.ctl().submit(["yes"]);
    for _ in 0..50 {
        let mut peer = RawPeer::connect_and_greet(&daemon);
        let follow = Request::ReadOutput(OutputRequest {
            target: Target::Id(id),
            streams: StreamSelection::Both,
            start: OutputStart::Offset(0),
            length: None,
            since: None,
            until: None,
            follow: true,
        });
        peer.send(&RawPeer::request_frame(1, follow));
        assert!(matches!(
            peer.receive_frame(),
            Some(ServerFrame::Item { .. })
        ));
    }
    let _ = daemon
        .ctl()
        .run(["cancel".to_owned(), id.to_string()])
        .expect(0);
    assert_serves(&daemon);
}

/// A log that is removed from outside is an error for its readers, and for nobody else.
#[test]
fn a_removed_log_is_an_error() {
    let daemon = Daemon::start();
    let id = daemon.ctl().submit(["echo", "x"]);
    daemon.ctl().wait(id, 0);
    let log = daemon.home().log(id);
    watch::until_exists(&log);
    std::fs::remove_file(log).unwrap();
    let ended = daemon
        .ctl()
        .run(["logs".to_owned(), id.to_string()])
        .expect(1);
    assert!(ended.err().contains(".log"), "{ended:?}");
    assert_serves(&daemon);
}
