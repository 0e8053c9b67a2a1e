//! Keys, which make submissions safe to repeat.

use std::fs;

use escher_client::{ErrorCode, ExecutionRequest};
use escher_tests::{Daemon, connect, exec, in_runtime, require_root, shell};

fn keyed(key: &str, script: &str) -> ExecutionRequest {
    ExecutionRequest {
        key: Some(key.into()),
        ..shell(script)
    }
}

#[test]
fn the_same_key_twice_runs_once() {
    let daemon = Daemon::start();
    let count = daemon.home().work().join("count");
    let script = format!("echo ran >> {}", count.display());
    in_runtime(async {
        let client = connect(&daemon).await;
        let first = client.execute(keyed("k", &script)).await.unwrap();
        let second = client.execute(keyed("k", &script)).await.unwrap();
        assert_eq!((first.id, first.number), (second.id, second.number));
        assert_eq!((first.existing, second.existing), (false, true));
        client.wait_for_completion(first.id).await.unwrap();
        let third = client.execute(keyed("k", &script)).await.unwrap();
        assert_eq!(third.id, first.id, "also when it is finished");
    });
    assert_eq!(fs::read_to_string(count).unwrap(), "ran\n");
}

#[test]
fn the_same_key_over_two_connections_at_once_runs_once_and_both_get_its_result() {
    let daemon = Daemon::start();
    let count = daemon.home().work().join("count");
    in_runtime(async {
        let (one, other) = (connect(&daemon).await, connect(&daemon).await);
        for round in 0..200 {
            let script = format!("echo {round} >> {}; echo result {round}", count.display());
            let request = keyed(&format!("key {round}"), &script);
            let (first, second) =
                tokio::join!(one.execute(request.clone()), other.execute(request));
            let (first, second) = (first.unwrap(), second.unwrap());
            assert_eq!(first.id, second.id);
            assert!(
                first.existing != second.existing,
                "exactly one of them is the first"
            );
            let (a, b) = tokio::join!(one.get_result(first.id), other.get_result(second.id));
            let expected = format!("result {round}\n");
            assert_eq!(a.unwrap().stdout, expected.as_bytes());
            assert_eq!(b.unwrap().stdout, expected.as_bytes());
        }
    });
    let ran = fs::read_to_string(count).unwrap();
    let mut ran: Vec<u32> = ran.lines().map(|line| line.parse().unwrap()).collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..200).collect::<Vec<_>>());
}

#[test]
fn the_same_key_with_another_request_is_a_conflict() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let first = client.execute(keyed("k", "true")).await.unwrap();
        let others = [
            keyed("k", "false"),
            ExecutionRequest {
                key: Some("k".into()),
                ..exec(["true"])
            },
            ExecutionRequest {
                environment: vec![("A".into(), "1".into())],
                ..keyed("k", "true")
            },
            ExecutionRequest {
                name: Some("other".into()),
                ..keyed("k", "true")
            },
        ];
        for other in others {
            let error = client.execute(other).await.unwrap_err();
            let error = error.as_api().expect("a typed error").clone();
            assert_eq!(error.code, ErrorCode::KEY_CONFLICT);
            assert!(!error.retry);
        }
        assert_eq!(
            client.execute(keyed("k", "true")).await.unwrap().id,
            first.id
        );
    });
}

#[test]
fn a_refused_request_does_not_take_its_key() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let nothing: [&str; 0] = [];
        let bad = ExecutionRequest {
            key: Some("k".into()),
            ..exec(nothing)
        };
        client.execute(bad).await.unwrap_err();
        assert!(!client.execute(keyed("k", "true")).await.unwrap().existing);
    });
}

#[test]
fn escherctl_submits_with_a_key() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let first = ctl.submit(["--key", "deploy", "echo", "once"]);
    assert_eq!(ctl.submit(["--key", "deploy", "echo", "once"]), first);
    let run = ctl
        .run(["run", "--key", "deploy", "echo", "once"])
        .expect(0);
    assert_eq!(run.out(), "once\n", "its output is there for the repeat");
    let conflict = ctl
        .run(["submit", "--key", "deploy", "echo", "twice"])
        .expect(1);
    assert!(conflict.err().contains("deploy"), "{conflict:?}");
    let _ = ctl
        .run(["run", "--key", "deploy", "echo", "twice"])
        .expect(125);
}

#[test]
fn keys_of_different_users_are_independent() {
    if !require_root("keys of different users") {
        return;
    }
    let daemon = Daemon::with_config("[daemon]\nsocket_mode = \"0666\"\n");
    let root = daemon.ctl().submit(["--key", "k", "id", "-u"]);
    let one = daemon
        .ctl()
        .as_user(61_001, 61_001, &[])
        .submit(["--key", "k", "id", "-u"]);
    let two = daemon
        .ctl()
        .as_user(61_002, 61_002, &[])
        .submit(["--key", "k", "echo", "x"]);
    assert!(root != one && one != two && root != two);
}
