//! escherd with a launcher that is a service of its own.

use std::fs;

use escher_tests::{Daemon, Keeper};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Submits a command that runs until it is ended, and waits until it runs. Returns its id.
fn set_going(daemon: &Daemon) -> String {
    let gate = daemon.home().fifo("gate");
    let script = format!("echo up > {}; exec sleep 1000", gate.name());
    let id = daemon.ctl().line(["submit", "--shell", &script]);
    assert_eq!(gate.read_line(), "up");
    id
}

#[test]
fn limits_pauses_and_figures_go_through_to_the_cgroup_of_a_command() {
    let Some(keeper) = Keeper::start_or_skip("a pause from client to cgroup") else {
        return;
    };
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    let (up, gate) = (daemon.home().fifo("up"), daemon.home().fifo("gate"));
    let (said, heard) = (up.name(), gate.name());
    let script = format!("echo up > {said}; read -r line < {heard}; exit 4");
    let id = ctl.line(["submit", "--name", "held", "--shell", &script]);
    assert_eq!(up.read_line(), "up");
    let frozen = || {
        let events = keeper.cgroup().join(&id).join("cgroup.events");
        fs::read_to_string(events).unwrap().contains("frozen 1")
    };
    let _ = ctl.run(["pause", "held"]).expect(0);
    assert!(frozen());
    assert_eq!(ctl.json(["inspect", "held"])["paused"], true);
    // Once more changes nothing.
    let _ = ctl.run(["pause", "held"]).expect(0);
    let _ = ctl.run(["resume", "held"]).expect(0);
    assert!(!frozen());
    assert_eq!(ctl.json(["inspect", "held"])["paused"], false);
    gate.write_line("go");
    let _ = ctl.run(["wait", "held"]).expect(4);
    let record = ctl.json(["inspect", "held"]);
    assert_eq!(record["paused"], false);
    assert!(
        record["usage"]["io_written_bytes"].is_null()
            || record["usage"]["io_written_bytes"].is_u64()
    );
    let ended = ctl.run(["pause", "held"]).expect(1);
    assert!(ended.err().contains("execution 1 is failed"), "{ended:?}");
}

#[test]
fn a_pause_outlives_escherd() {
    let Some(keeper) = Keeper::start_or_skip("a pause over a restart") else {
        return;
    };
    let daemon = keeper.daemon().leave_commands().start();
    let id = set_going(&daemon);
    let _ = daemon.ctl().run(["pause", &id]).expect(0);
    let _ = daemon.stop();
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    assert_eq!(ctl.json(["inspect", &id])["paused"], true);
    let _ = ctl.run(["cancel", &id]).expect(0);
    let _ = ctl.run(["wait", &id]).expect(128 + 15);
}

#[test]
fn a_killed_launcher_is_followed_and_what_a_killed_shim_leaves_is_ended() {
    let Some(keeper) = Keeper::start_or_skip("deaths under a keeper") else {
        return;
    };
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    let id = set_going(&daemon);
    let launcher = ctl.json(["info"])["launcher_pid"]
        .as_i64()
        .expect("a launcher");
    kill(
        Pid::from_raw(i32::try_from(launcher).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    // Waits for a launcher where no shim is ready.
    for _ in 0..10 {
        let _ = ctl.run(["run", "true"]).expect(0);
    }
    let command = ctl.json(["inspect", &id])["pid"]
        .as_i64()
        .expect("a process");
    let command = Pid::from_raw(i32::try_from(command).unwrap());
    let shim = escher_tests::parent_of(command).expect("its shim");
    kill(shim, Signal::SIGKILL).unwrap();
    let _ = ctl.run(["wait", &id]).expect(125);
    let record = ctl.json(["inspect", &id]);
    assert_eq!(record["status"], "lost", "{record}");
    assert_ne!(record["leftovers"], "unknown", "{record}");
    assert!(!keeper.cgroup().join(&id).exists());
}

#[test]
fn sigterm_to_the_keeper_cancels_everything_and_escherd_stays() {
    let Some(keeper) = Keeper::start_or_skip("the stop of a keeper under escherd") else {
        return;
    };
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    let id = set_going(&daemon);
    drop(keeper);
    let _ = ctl.run(["wait", &id]).expect(128 + 15);
    let record = ctl.json(["inspect", &id]);
    assert_eq!(record["status"], "cancelled", "{record}");
    assert_eq!(record["cancelled_by"], "host", "{record}");
}
