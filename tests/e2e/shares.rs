//! Users share slots and queue: a flood of one delays another by one slot at most, and root not at all.

use escher_tests::{Ctl, Daemon, Fifo, FinishedProgram, require_root};
use serde_json::Value;

/// Users without a passwd entry.
const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;

/// Two slots, and a queue of 20 places.
const CONFIG: &str = "\
    [daemon]\nsocket_mode = \"0666\"\n\
    [execution]\nmax_concurrent_executions = 2\nmax_pending_executions = 20\n";

fn user(daemon: &Daemon, uid: u32) -> Ctl {
    daemon.ctl().as_user(uid, uid, &[])
}

/// Submits commands that read a line from `gate` until one is refused. Returns how many were accepted, and the refusal.
fn flood(ctl: &Ctl, gate: &Fifo) -> (usize, Value) {
    let script = format!("read line < {}", gate.name());
    let mut accepted = 0;
    loop {
        let submitted = ctl.run(["--json", "submit", "-w", "/", "sh", "-c", &script]);
        if submitted.code != 0 {
            return (accepted, error_of(&submitted));
        }
        accepted += 1;
    }
}

/// Returns the JSON of a failure.
fn error_of(failed: &FinishedProgram) -> Value {
    serde_json::from_str(failed.err()).unwrap_or_else(|error| panic!("{error}: {failed:?}"))
}

#[test]
fn a_flood_delays_another_user_by_one_slot_and_root_by_none() {
    if !require_root("commands of several users") {
        return;
    }
    let daemon = Daemon::with_config(CONFIG);
    let gate = daemon.home().fifo("gate");
    let (alice, bob, root) = (user(&daemon, ALICE), user(&daemon, BOB), daemon.ctl());
    let (accepted, refusal) = flood(&alice, &gate);
    assert_eq!(accepted, 2 + 10, "all slots and half of the queue");
    assert_eq!(refusal["error"]["code"], "over-quota", "{refusal}");
    assert_eq!(refusal["error"]["retry"], true, "{refusal}");
    assert_eq!(root.run(["run", "echo", "in"]).expect(0).out(), "in\n");

    let waiting = bob.submit(["-w", "/", "true"]).to_string();
    gate.write_line("go");
    bob.wait(&waiting, 0);
    let events = root.json_lines(["events"]);
    let place = |kind: &str| {
        let is_bobs = |event: &Value| event["kind"] == kind && event["id"] == *waiting;
        events.iter().position(is_bobs).expect("bob's command")
    };
    let between = &events[place("submitted")..place("started")];
    let started = between.iter().filter(|event| event["kind"] == "started");
    assert_eq!(started.count(), 0, "slots that others got: {between:?}");
}

#[test]
fn quota_shows_what_a_user_takes_and_may_take() {
    if !require_root("commands of several users") {
        return;
    }
    let daemon = Daemon::with_config(CONFIG);
    let gate = daemon.home().fifo("gate");
    let (alice, bob, root) = (user(&daemon, ALICE), user(&daemon, BOB), daemon.ctl());
    let script = format!("read line < {}", gate.name());
    for _ in 0..5 {
        let _ = alice.submit(["-w", "/", "sh", "-c", &script]);
    }
    let of_alice = alice.json(["quota"]);
    for (field, value) in [
        ("uid", u64::from(ALICE)),
        ("running", 2),
        ("max_running", 2),
        ("pending", 3),
        ("max_pending", 10),
        ("max_pending_bytes", 128 * 1024 * 1024),
    ] {
        assert_eq!(of_alice[field], value, "{field} in {of_alice}");
    }
    assert_eq!(of_alice["user"], ALICE.to_string());
    assert!(of_alice["pending_bytes"].as_u64().unwrap() > 0);
    assert_eq!(bob.json(["quota"])["pending"], 0);

    let (uid, other) = (format!("#{ALICE}"), format!("#{BOB}"));
    assert_eq!(alice.json(["quota", "--user", &uid]), of_alice);
    assert_eq!(root.json(["quota", "-u", &uid]), of_alice);
    assert_eq!(root.json(["quota", "-u", &other])["running"], 0);
    let uids: Vec<Value> = root
        .json_lines(["quota"])
        .iter()
        .map(|quota| quota["uid"].clone())
        .collect();
    assert_eq!(
        uids,
        [0, ALICE].map(Value::from),
        "root, and who has something"
    );
    // The answer does not depend on whether the other user exists.
    for user in [&uid[..], "#0", "root", "no-such-user"] {
        let refused = bob.run(["--json", "quota", "-u", user]).expect(1);
        let error = error_of(&refused);
        assert_eq!(error["error"]["code"], "permission-denied", "{error}");
    }
}

#[test]
fn a_name_means_ones_own_execution_and_another_users_has_the_user_in_front() {
    if !require_root("executions of several users") {
        return;
    }
    let daemon = Daemon::with_config("[daemon]\nsocket_mode = \"0666\"\n");
    let gate = daemon.home().fifo("gate");
    let (alice, bob, root) = (user(&daemon, ALICE), user(&daemon, BOB), daemon.ctl());
    let script = format!("read line < {}", gate.name());
    let named = ["-w", "/", "--name", "nightly"];
    let block = |ctl: &Ctl| {
        ctl.submit([&named[..], &["sh", "-c", &script]].concat())
            .to_string()
    };
    let fail = |ctl: &Ctl| {
        ctl.submit([&named[..], &["sh", "-c", "exit 3"]].concat())
            .to_string()
    };
    let hers = block(&alice);
    let of_alice = format!("{ALICE}/nightly");

    let missing = root.run(["inspect", "nightly"]).expect(1);
    assert!(missing.err().contains("USER/NAME"), "{missing:?}");
    assert_eq!(root.inspect(&of_alice)["id"], *hers);
    assert_eq!(alice.inspect(&of_alice)["id"], *hers);
    let foreign = bob.run(["inspect", &of_alice]).expect(1);
    let unknown = bob.run(["inspect", "no-such-user/nightly"]).expect(1);
    assert_eq!(
        foreign.err().replace(&of_alice, "no-such-user/nightly"),
        unknown.err()
    );

    // What root has done itself counts, though hers is newer and runs.
    let of_root = fail(&root);
    let newer = fail(&alice);
    alice.wait(&newer, 3);
    root.wait("nightly", 3);
    assert_eq!(root.inspect("nightly")["id"], *of_root);
    assert_eq!(root.inspect("root/nightly")["id"], *of_root);
    assert_eq!(root.inspect("0/nightly")["id"], *of_root);

    // What is not over comes before what is newer and over.
    assert_eq!(alice.inspect("nightly")["id"], *hers);
    let second = block(&alice);
    let ambiguous = alice.run(["cancel", "nightly"]).expect(1);
    for id in [&hers, &second] {
        assert!(ambiguous.err().contains(&**id), "{ambiguous:?}");
        let _ = alice.run(["cancel", id]).expect(0);
        assert_eq!(alice.run(["wait", id]).code, 143);
    }
    assert_eq!(alice.inspect("nightly")["id"], *second, "the newest");
    let refused = alice.run(["submit", "--name", "a/b", "true"]).expect(1);
    assert!(refused.err().contains("slash"), "{refused:?}");
}
