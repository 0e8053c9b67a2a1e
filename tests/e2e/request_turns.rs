//! Requests of all connections of one user together get the same turns as those of another.

use escher_protocol::message::Response;
use escher_protocol::{Request, ServerFrame};
use escher_tests::{Daemon, HeldConnections, Metrics, RawPeer, require_root};
use nix::sys::signal::{Signal, kill};

const ATTACKER: u32 = 61_001;

/// The flood: requests on each connection of the attacker.
const CONNECTIONS: u64 = 64;
const REQUESTS_EACH: u64 = 200;

/// How many requests of the attacker may be begun before one of another user is answered.
const MAX_BEFORE: f64 = 64.0;

/// Asks for the metrics, and returns how many requests were begun when they were made.
fn count_requests(peer: &mut RawPeer, id: u64) -> f64 {
    peer.send(&RawPeer::request_frame(id, Request::Metrics));
    receive_count(peer)
}

fn receive_count(peer: &mut RawPeer) -> f64 {
    match peer.receive_frame() {
        Some(ServerFrame::Reply {
            result: Ok(Response::Metrics(text)),
            ..
        }) => Metrics::parse(&text).get("requests_total"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flood_of_requests_on_many_connections_delays_another_user_by_a_few_of_them() {
    if !require_root("requests of several users") {
        return;
    }
    let daemon = Daemon::with_config("[daemon]\nsocket_mode = \"0666\"\n");
    let mut peer = RawPeer::connect_and_greet(&daemon);
    let hello = RawPeer::hello_frame();
    let socket = daemon.home().socket();
    let mut flood = HeldConnections::open(&daemon, Some(ATTACKER), &socket, CONNECTIONS, &hello);
    let before = count_requests(&mut peer, 1);
    // All of the flood is there before escherd can answer any of it.
    kill(daemon.pid(), Signal::SIGSTOP).unwrap();
    let requests: Vec<u8> = (0..REQUESTS_EACH)
        .flat_map(|id| RawPeer::request_frame(id, Request::Info))
        .collect();
    flood.send(&requests);
    peer.send(&RawPeer::request_frame(2, Request::Metrics));
    kill(daemon.pid(), Signal::SIGCONT).unwrap();
    let answered = receive_count(&mut peer);
    let of_flood = answered - before - 1.0;
    assert!(of_flood <= MAX_BEFORE, "{of_flood} requests came first");
    eprintln!(
        "{of_flood} of {} requests came first",
        CONNECTIONS * REQUESTS_EACH
    );
    // Later requests wait no longer.
    for id in 3..10 {
        peer.send(
            &[
                RawPeer::request_frame(2 * id, Request::Metrics),
                RawPeer::request_frame(2 * id + 1, Request::Metrics),
            ]
            .concat(),
        );
        let (first, second) = (receive_count(&mut peer), receive_count(&mut peer));
        assert!((first - second).abs() <= MAX_BEFORE, "{first}, {second}");
    }
    flood.close();
}
