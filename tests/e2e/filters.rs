//! No filter harms the store or other users.

use std::fs;

use escher_client::ErrorCode;
use escher_protocol::message::{Condition, ListFilter, Property, Selection};
use escher_protocol::{Request, ServerFrame};
use escher_tests::{Ctl, Daemon, Home, RawPeer, require_root};

/// Users without a passwd entry.
const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;

/// All results have left memory, so that the store answers.
const NOTHING_IN_MEMORY: &str = "\
[daemon]
socket_mode = \"0666\"
[execution]
max_in_memory_executions = 0
";

/// Returns the names of the store's files: itself, and signs of damage.
fn store_files(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.state()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("escher.db") && !name.ends_with("-wal"))
        .filter(|name| !name.ends_with("-shm") && !name.ends_with("-numbers"))
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_filter_with_1100_labels_leaves_the_store_to_all_users() {
    if !require_root("executions of several users") {
        return;
    }
    let mut daemon = Daemon::with_config(NOTHING_IN_MEMORY);
    let home = daemon.home().clone();
    let as_user = |daemon: &Daemon, uid| daemon.ctl().as_user(uid, uid, &[]);
    let bob = as_user(&daemon, BOB);
    for _ in 0..3 {
        let _ = bob.run(["run", "-w", "/", "true"]).expect(0);
    }
    let alice = as_user(&daemon, ALICE);
    let _ = alice.run(["run", "-w", "/", "true"]).expect(0);
    let filters: Vec<String> = (0..1100)
        .map(|n| format!("--filter=label.k{n}=v"))
        .collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    for words in [&["ps", "-a"][..], &["prune"]] {
        let refused = alice.run([words, &filters].concat());
        assert_ne!(refused.code, 0);
        assert!(
            refused.err().contains("1100 conditions: the maximum is 64"),
            "{refused:?}"
        );
    }
    let listed = |ctl: &Ctl| ctl.json_lines(["ps", "-a"]).len();
    assert_eq!((listed(&alice), listed(&bob)), (1, 3));
    assert_eq!(store_files(&home), ["escher.db"]);
    daemon.kill();
    drop(daemon);
    let builder = Daemon::builder().home(&home).config(NOTHING_IN_MEMORY);
    let daemon = builder.start();
    assert_eq!(store_files(&home), ["escher.db"], "{}", daemon.log());
    assert_eq!(listed(&as_user(&daemon, BOB)), 3);
}

/// What escherctl would not send.
#[test]
fn a_filter_over_a_limit_is_refused_and_the_connection_stays_open() {
    let daemon = Daemon::start();
    let mut peer = RawPeer::connect_and_greet(&daemon);
    let label = |n: u32| Condition::is(Property::Label(n.to_string().into(), "".into()));
    let with_labels = |count| -> Selection {
        let filter = ListFilter {
            conditions: (0..count).map(label).collect(),
            ..ListFilter::default()
        };
        filter.into()
    };
    let mut receive = |id, request| {
        peer.send(&RawPeer::request_frame(id, request));
        match peer.receive_frame().expect("an answer") {
            ServerFrame::End { result, .. } => result.err(),
            ServerFrame::Reply { result, .. } => result.err(),
            frame => panic!("{frame:?}"),
        }
    };
    for (id, request) in [
        (1, Request::List(with_labels(65))),
        (2, Request::List(with_labels(10_000))),
        (
            3,
            Request::Prune {
                selection: with_labels(65),
                dry_run: false,
            },
        ),
        (4, Request::Status("x".repeat(100_000).as_str().into())),
    ] {
        let error = receive(id, request).expect("a refusal");
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST, "{error}");
        assert!(error.message.len() < 200, "{error}");
    }
    assert_eq!(receive(5, Request::List(with_labels(64))), None);
}
