//! `-p KillMode=process`: a command may leave processes running.

use std::fs;

use escher_tests::{Ctl, Daemon, Fifo, is_unlocked, require_root, wait_until_unlocked, watch};
use serde_json::Value;

/// A script that leaves a process, which has a lock on `lock`, and prints each line that comes from the fifo.
fn leaving(daemon: &Daemon, fifo: &Fifo) -> String {
    let (lock, ready) = (
        daemon.home().work().join("lock"),
        daemon.home().fifo("ready"),
    );
    format!(
        "(exec 9> {lock}; flock 9; echo > {ready}; while read -r line < {fifo}; do echo $line; done) & \
         read -r line < {ready}; echo main; exit 3",
        lock = lock.display(),
        ready = ready.name(),
        fifo = fifo.name()
    )
}

fn is_left(daemon: &Daemon) -> bool {
    !is_unlocked(&daemon.home().work().join("lock"))
}

fn wait_for_end(daemon: &Daemon) {
    assert!(wait_until_unlocked(&daemon.home().work().join("lock")));
}

/// Runs a command that leaves a process, and returns its record.
fn run(daemon: &Daemon, ctl: &Ctl, fifo: &Fifo) -> Value {
    let script = leaving(daemon, fifo);
    let words = [
        "run",
        "--name",
        "it",
        "-p",
        "KillMode=process",
        "sh",
        "-c",
        &script,
    ];
    assert_eq!(ctl.run(words).expect(3).out(), "main\n");
    let record = ctl.inspect("it");
    assert_eq!(
        (&record["leftovers"], &record["kill_mode"]),
        (&"left".into(), &"process".into())
    );
    assert!(is_left(daemon));
    record
}

#[test]
fn what_is_left_goes_on_without_a_slot_and_its_output_is_logged() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let ctl = daemon.ctl();
    let fifo = daemon.home().fifo("fifo");
    let record = run(&daemon, &ctl, &fifo);
    assert_eq!(ctl.run(["run", "true"]).expect(0).out(), "");
    fifo.write_line("later");
    let log = record["log_path"].as_str().unwrap();
    let is_whole = || (fs::read_to_string(log).unwrap() == "main\nlater\n").then_some(());
    watch::until(&daemon.home().logs(), is_whole);
    assert_eq!(ctl.run(["logs", "it"]).expect(0).out(), "main\nlater\n");
    // It does not run: its main process cannot be signalled.
    let refused = ctl.run(["kill", "-s", "TERM", "it"]).expect(1);
    assert!(refused.err().contains("is failed"), "{}", refused.err());
    assert!(is_left(&daemon));
    let _ = ctl.run(["kill", "--tree", "-s", "TERM", "it"]).expect(0);
    wait_for_end(&daemon);
}

#[test]
fn what_is_left_is_reached_after_kill_9_of_escherd_and_ended_by_rm() {
    let mut daemon = Daemon::builder().leave_commands().start();
    let home = daemon.home().clone();
    let fifo = home.fifo("fifo");
    let record = run(&daemon, &daemon.ctl(), &fifo);
    daemon.kill();
    let next = Daemon::builder().home(&home).start();
    assert!(is_left(&next));
    let ctl = next.ctl();
    assert_eq!(ctl.inspect("it")["leftovers"], "left");
    let _ = ctl.run(["rm", "it"]).expect(0);
    assert!(!is_left(&next));
    watch::until_removed(record["log_path"].as_str().unwrap().as_ref());
}

#[test]
fn a_cancelled_command_leaves_nothing() {
    let daemon = Daemon::start();
    let fifo = daemon.home().fifo("fifo");
    let lock = daemon.home().work().join("lock");
    let script = format!(
        "(exec 9> {}; flock 9; echo > {}; sleep 1000) & sleep 1000",
        lock.display(),
        fifo.name()
    );
    let id = daemon
        .ctl()
        .submit(["-p", "KillMode=process", "sh", "-c", &script]);
    let _ = fifo.read_line();
    let _ = daemon.ctl().run(["cancel", &id.to_string()]).expect(0);
    daemon.ctl().wait(id, 143);
    assert!(is_unlocked(&lock));
    assert_ne!(daemon.ctl().inspect(id)["leftovers"], "left");
}

#[test]
fn what_is_left_is_ended_with_the_service() {
    let daemon = Daemon::start();
    let fifo = daemon.home().fifo("fifo");
    run(&daemon, &daemon.ctl(), &fifo);
    daemon.stop();
}

#[test]
fn a_user_may_leave_no_more_than_its_limit_and_only_root_reaches_what_others_left() {
    if !require_root("commands of other users") {
        return;
    }
    let config =
        "[daemon]\nsocket_mode = \"0666\"\n[execution]\ndrain = \"0s\"\n[users]\nmax_left = 1\n";
    let daemon = Daemon::with_config(config);
    let [alice, bob] = [61_101, 61_102].map(|uid| daemon.ctl().as_user(uid, uid, &[]));
    let run = |ctl: &Ctl, name: &str| {
        let words = ["run", "-w", "/", "--name", name, "-p", "KillMode=process"];
        let command = ["sh", "-c", "sleep 1000 & exit 0"];
        let _ = ctl.run(words.into_iter().chain(command)).expect(0);
        ctl.inspect(name)["leftovers"].clone()
    };
    assert_eq!(run(&alice, "first"), "left");
    assert_eq!(run(&alice, "second"), "killed");
    assert_eq!(run(&bob, "first"), "left");
    let number = alice.inspect("first")["number"].to_string();
    for verb in [&["kill", "--tree", "-s", "KILL"][..], &["rm"]] {
        let _ = bob.run(verb.iter().copied().chain([&*number])).expect(1);
    }
    let _ = alice.run(["rm", "first"]).expect(0);
    assert_eq!(run(&alice, "third"), "left");
    for (ctl, name) in [(&alice, "third"), (&bob, "first")] {
        let _ = ctl.run(["kill", "--tree", "-s", "KILL", name]).expect(0);
    }
}
