//! Users share the disk of the logs: a loud one is cut at its share, and nobody else.

use std::fs;
use std::sync::Arc;

use escher_client::ExecutionId;
use escher_tests::{Ctl, Daemon, DaemonBuilder, Home, Tmpfs, require_root, watch};
use serde_json::Value;

/// Users without a passwd entry.
const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;

const MIB: u64 = 1024 * 1024;

/// The share of each user: a quarter of a disk of 8 MiB.
const SHARE: u64 = 2 * MIB;

/// Three times the share.
const LOUD: &str = "head -c 6291456 /dev/zero";
const LOUD_BYTES: u64 = 6 * MIB;

fn builder(home: &Arc<Home>, when_full: &str) -> DaemonBuilder {
    let config = format!(
        "[daemon]\nsocket_mode = \"0666\"\n\
         [execution]\nlog_min_free_bytes = 0\nlog_full = \"{when_full}\"\nkill_grace_ms = 300\n"
    );
    Daemon::builder().home(home).config(&config)
}

fn user(daemon: &Daemon, uid: u32) -> Ctl {
    daemon.ctl().as_user(uid, uid, &[])
}

fn submit(ctl: &Ctl, script: &str) -> ExecutionId {
    ctl.submit(["-w", "/", "sh", "-c", script])
}

/// Bytes of the log and the index of an execution.
fn log_and_index(home: &Home, id: ExecutionId) -> u64 {
    let size = |path| fs::metadata(path).map_or(0, |found| found.len());
    size(home.log(id)) + size(home.index(id))
}

/// What `quota` shows of the disk of the logs: what the user takes, and may take.
fn disk_quota(ctl: &Ctl) -> (u64, u64) {
    disk_quota_in(&ctl.json(["quota"]))
}

fn disk_quota_in(quota: &Value) -> (u64, u64) {
    let number = |field: &str| quota[field].as_u64().expect("a number");
    (number("log_disk_bytes"), number("max_log_disk_bytes"))
}

#[test]
fn a_loud_user_is_cut_at_its_share_while_the_output_of_others_is_whole() {
    if !require_root("commands of several users, on a small disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Tmpfs::mount(&home.logs(), "8m");
    let daemon = builder(&home, "drain").start();
    let (alice, bob) = (user(&daemon, ALICE), user(&daemon, BOB));
    let (written, gate) = (home.fifo("written"), home.fifo("gate"));
    let script = format!(
        "{LOUD}; echo written > {}; read line < {}",
        written.name(),
        gate.name()
    );
    let loud = submit(&alice, &script);
    assert_eq!(written.read_line(), "written");
    assert_eq!(disk_quota(&alice), (SHARE, SHARE));
    assert_eq!(disk_quota(&bob), (0, SHARE));
    let of_root = daemon.ctl().json(["quota", "-u", "#0"]);
    assert_eq!(disk_quota_in(&of_root), (0, 8 * MIB));

    let quiet = submit(&bob, "head -c 1500000 /dev/zero");
    bob.wait(quiet, 0);
    let record = bob.inspect(quiet);
    assert_eq!(record["output"]["log_bytes"], 1_500_000, "{record}");
    assert_eq!(record["output"]["dropped_bytes"], 0, "{record}");
    assert_eq!(disk_quota(&bob).0, log_and_index(&home, quiet));

    gate.write_line("go");
    alice.wait(loud, 0);
    let record = alice.inspect(loud);
    let number = |field: &str| record["output"][field].as_u64().expect("a number");
    assert_eq!(number("log_bytes") + number("dropped_bytes"), LOUD_BYTES);
    assert_eq!(log_and_index(&home, loud), SHARE, "{record}");
    let shown = alice.run(["logs", &loud.to_string()]).expect(0);
    assert!(shown.err().contains("users.log_share"), "{}", shown.err());

    // Nothing is left, but a short output is still there.
    let short = submit(&alice, "echo short");
    alice.wait(short, 0);
    let shown = alice.run(["logs", &short.to_string()]).expect(0);
    assert_eq!(shown.out(), "short\n");

    // What is removed is free again.
    let _ = alice.run(["rm", &loud.to_string()]).expect(0);
    let again = submit(&alice, "head -c 1500000 /dev/zero");
    alice.wait(again, 0);
    assert_eq!(alice.inspect(again)["output"]["dropped_bytes"], 0);
}

#[test]
fn with_log_full_kill_the_command_that_fills_the_share_is_ended() {
    if !require_root("commands of several users, on a small disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Tmpfs::mount(&home.logs(), "8m");
    let daemon = builder(&home, "kill").start();
    let alice = user(&daemon, ALICE);
    let ended = alice.run(["run", "-w", "/", "yes"]).expect(125);
    assert!(ended.err().contains("users.log_share"), "{}", ended.err());
    let record = alice.inspect("1");
    assert_eq!(record["error"]["code"], "log-full", "{record}");
    assert_eq!(disk_quota(&alice).0, SHARE);
}

#[test]
fn a_restarted_escherd_knows_what_running_and_finished_logs_take() {
    if !require_root("commands of several users, on a small disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Tmpfs::mount(&home.logs(), "8m");
    let mut first = builder(&home, "drain").leave_commands().start();
    let alice = user(&first, ALICE);
    let finished = submit(&alice, "head -c 300000 /dev/zero");
    alice.wait(finished, 0);
    let (written, gate) = (home.fifo("written"), home.fifo("gate"));
    let script = format!(
        "{LOUD}; echo written > {}; read line < {}",
        written.name(),
        gate.name()
    );
    let running = submit(&alice, &script);
    assert_eq!(written.read_line(), "written");
    first.kill();

    let second = builder(&home, "drain").leave_commands().start();
    let alice = user(&second, ALICE);
    assert_eq!(disk_quota(&alice), (SHARE, SHARE));
    gate.write_line("go");
    alice.wait(running, 0);
    let logs = log_and_index(&home, finished) + log_and_index(&home, running);
    assert_eq!((disk_quota(&alice).0, logs), (SHARE, SHARE));
    for id in [finished, running] {
        let _ = alice.run(["rm", &id.to_string()]).expect(0);
        watch::until_removed(&home.log(id));
    }
    assert_eq!(disk_quota(&alice).0, 0);
}

#[test]
fn a_reload_changes_the_share() {
    if !require_root("a user of its own, on a small disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Tmpfs::mount(&home.logs(), "8m");
    let daemon = builder(&home, "drain").start();
    let alice = user(&daemon, ALICE);
    assert_eq!(disk_quota(&alice), (0, SHARE));
    let config = "[daemon]\nsocket_mode = \"0666\"\n[users]\nlog_share = \"50%\"\n";
    fs::write(home.path().join("escher.toml"), config).unwrap();
    let _ = daemon.ctl().run(["reload"]).expect(0);
    assert_eq!(disk_quota(&alice), (0, 2 * SHARE));
}
