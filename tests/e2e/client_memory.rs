//! What clients can make escherd hold in memory is bounded for each user, and others do not notice.

use escher_client::{Condition, Error, ErrorCode, ExecutionRequest, ListFilter, Property};
use escher_protocol::message::Selection;
use escher_protocol::{Request, ServerFrame};
use escher_tests::{
    Daemon, HeldConnections, Metrics, RawPeer, connect, exec, in_runtime, require_root,
};

const ATTACKER: u32 = 61_001;
const OTHER: u32 = 61_002;

const MIB: f64 = 1024.0 * 1024.0;

/// What the attacker may hold.
const USER_BYTES: f64 = 32.0 * MIB;

fn memory(daemon: &Daemon) -> f64 {
    Metrics::fetch(daemon).get("client_memory_bytes")
}

/// The beginning of a submission of almost 8 MiB.
fn half_a_submission() -> Vec<u8> {
    let request = exec(["true", &"x".repeat(8_000_000)]);
    let mut frame = RawPeer::request_frame(1, Request::Submit(Box::new(request)));
    frame.truncate(100_000);
    frame
}

#[test]
fn half_sent_frames_of_one_user_are_bounded_and_others_are_served() {
    if !require_root("memory of several users") {
        return;
    }
    let daemon = Daemon::with_config(
        "[daemon]\nsocket_mode = \"0666\"\nmax_client_memory_bytes = 134217728\n\
         max_client_memory_bytes_per_user = 33554432\n",
    );
    let hello = RawPeer::hello_frame();
    let socket = daemon.home().socket();
    let mut held = HeldConnections::open(&daemon, Some(ATTACKER), &socket, 250, &hello);
    held.send(&half_a_submission());
    // Four such frames would be over the limit, and 250 are 2 GB.
    while memory(&daemon) < 3.0 * 8_000_000.0 {}
    for _ in 0..3 {
        for ctl in [daemon.ctl(), daemon.ctl().as_user(OTHER, OTHER, &[])] {
            let ended = ctl.run(["run", "-w", "/", "echo", "served"]).expect(0);
            assert_eq!(ended.out(), "served\n");
        }
        let held = memory(&daemon);
        assert!(held <= USER_BYTES + MIB, "{held} bytes");
    }
    // Another user may submit as much as ever.
    let long = "x".repeat(100_000);
    let words = ["run", "-w", "/", "true"].into_iter().map(str::to_owned);
    let words: Vec<String> = words.chain((0..15).map(|_| long.clone())).collect();
    let other = daemon.ctl().as_user(OTHER, OTHER, &[]);
    let _ = other.run(&words).expect(0);
    held.close();
    while memory(&daemon) > MIB {}
}

#[test]
fn only_a_submission_may_be_longer_than_128_kib() {
    let daemon = Daemon::start();
    let filter = || ListFilter {
        conditions: vec![Condition::is(Property::Name("x".repeat(200_000).into()))],
        ..ListFilter::default()
    };
    let frame = RawPeer::request_frame(1, Request::List(Selection::from(filter())));
    // The first bytes are enough.
    let mut peer = RawPeer::connect_and_greet(&daemon);
    peer.send(&frame[..30]);
    let Some(ServerFrame::End { result, .. }) = peer.receive_frame() else {
        panic!("a reason");
    };
    let error = result.unwrap_err();
    assert_eq!(error.code, ErrorCode::FRAME_TOO_LARGE);
    let length = (frame.len() - 4).to_string();
    assert!(error.message.contains(&length), "{error}");
    assert!(error.message.contains("131072"), "{error}");
    assert_eq!(peer.read_to_end(), 0);
    in_runtime(async {
        let client = connect(&daemon).await;
        match client.list_executions(filter()).await {
            Err(Error::RequestTooLarge { limit: 131_072, .. }) => {}
            other => panic!("{:?}", other.map(drop)),
        }
    });
}

#[test]
fn a_list_that_nobody_reads_keeps_a_page_in_memory() {
    const EXECUTIONS: usize = 200;
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        for index in 0..EXECUTIONS {
            // 16 KB of labels: 3 MB in all.
            let label = |label: usize| {
                let value = format!("{index} {}", "x".repeat(240));
                (format!("label-{label}").into(), value.into())
            };
            let request = ExecutionRequest {
                labels: (0..64).map(label).collect(),
                ..exec(["true"])
            };
            client.execute(request).await.unwrap();
        }
    });
    let all = ListFilter {
        all: true,
        ..ListFilter::default()
    };
    let before = memory(&daemon);
    let mut peer = RawPeer::connect_and_greet(&daemon);
    peer.send(&RawPeer::request_frame(1, Request::List(all.into())));
    let Some(ServerFrame::Item { .. }) = peer.receive_frame() else {
        panic!("an item");
    };
    for _ in 0..5 {
        let held = memory(&daemon) - before;
        assert!(held <= 0.75 * MIB, "{held} bytes");
    }
    drop(peer);
    while memory(&daemon) > before {}
}
