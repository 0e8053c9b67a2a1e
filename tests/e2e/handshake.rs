//! The first frames of a connection.

use std::collections::BTreeMap;

use escher_protocol::handshake::{HIGHEST_VERSION, Hello, HelloReply, LOWEST_VERSION};
use escher_protocol::{ErrorCode, Request, Response, ServerFrame};
use escher_tests::{Daemon, RawPeer, exec};

#[test]
fn requests_sent_with_the_greeting_are_answered_after_the_welcome() {
    let daemon = Daemon::start();
    let mut peer = RawPeer::connect(&daemon);
    let submit = Request::Submit(Box::new(exec(["true"])));
    let frames = [
        RawPeer::hello_frame(),
        RawPeer::request_frame(1, submit),
        RawPeer::request_frame(2, Request::Info),
    ];
    peer.send(&frames.concat());
    let greeting = peer.receive_hello_reply();
    assert!(
        matches!(greeting, Some(HelloReply::Welcome(_))),
        "{greeting:?}"
    );
    // In any order.
    let mut answered = BTreeMap::new();
    for _ in 0..2 {
        match peer.receive_frame() {
            Some(ServerFrame::Reply { id, result }) => answered.insert(id.0, result.unwrap()),
            other => panic!("{other:?}"),
        };
    }
    assert!(matches!(answered[&1], Response::Submitted(_)));
    assert!(matches!(answered[&2], Response::Info(_)));
}

/// Sends `hello` and a submission, which escherd has to refuse. Returns the message.
fn refusal_of(daemon: &Daemon, hello: &Hello) -> String {
    let mut peer = RawPeer::connect(daemon);
    let submit = Request::Submit(Box::new(exec(["true"])));
    peer.send(
        &[
            RawPeer::frame_of_hello(hello),
            RawPeer::request_frame(1, submit),
        ]
        .concat(),
    );
    let Some(HelloReply::Refused(refusal)) = peer.receive_hello_reply() else {
        panic!("{hello:?} is not refused");
    };
    assert_eq!(refusal.error.code, ErrorCode::UNSUPPORTED_VERSION);
    let spoken = (refusal.lowest, refusal.highest);
    assert_eq!(spoken, (LOWEST_VERSION, HIGHEST_VERSION));
    assert_eq!(peer.read_to_end(), 0);
    refusal.error.message.to_string()
}

#[test]
fn other_protocols_and_versions_are_refused_with_the_requests_after_them() {
    let daemon = Daemon::start();
    let development_version = Hello {
        magic: *b"\x00escher\n",
        ..Hello::new("raw peer")
    };
    let message = refusal_of(&daemon, &development_version);
    assert!(message.contains("another protocol"), "{message}");
    for (lowest, highest) in [(0, 0), (HIGHEST_VERSION + 1, u16::MAX), (2, 1)] {
        let hello = Hello {
            lowest,
            highest,
            ..Hello::new("raw peer")
        };
        let message = refusal_of(&daemon, &hello);
        let range = format!("speaks {lowest} to {highest}");
        assert!(message.contains(&range), "{message}");
    }
    let listed = daemon.ctl().run(["ps", "-a", "-q"]).expect(0);
    assert!(!listed.out().contains("true"), "{}", listed.out());
}
