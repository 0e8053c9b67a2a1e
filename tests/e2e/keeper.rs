//! escherd with a launcher that is a service of its own, under a keeper.

use std::fs;

use escher_tests::{Daemon, Keeper};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Submits a command that runs until it is ended, and waits until it runs. Returns its id.
fn start_command(daemon: &Daemon) -> String {
    let gate = daemon.home().fifo("gate");
    let script = format!("echo up > {}; exec sleep 1000", gate.name());
    let id = daemon.ctl().line(["submit", "--shell", &script]);
    assert_eq!(gate.read_line(), "up");
    id
}

#[test]
fn pause_and_resume_reach_the_cgroup_of_a_command() {
    let Some(keeper) = Keeper::start_or_skip("pauses by cgroups") else {
        return;
    };
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    let (up, gate) = (daemon.home().fifo("up"), daemon.home().fifo("gate"));
    let script = format!(
        "echo up > {}; read -r line < {}; exit 4",
        up.name(),
        gate.name()
    );
    let id = ctl.line(["submit", "--name", "job", "--shell", &script]);
    assert_eq!(up.read_line(), "up");
    let is_frozen = || {
        let events = keeper.cgroup_of(1, &id).join("cgroup.events");
        fs::read_to_string(events).unwrap().contains("frozen 1")
    };
    let _ = ctl.run(["pause", "job"]).expect(0);
    assert!(is_frozen());
    assert_eq!(ctl.json(["inspect", "job"])["paused"], true);
    // Pausing again changes nothing.
    let _ = ctl.run(["pause", "job"]).expect(0);
    let _ = ctl.run(["resume", "job"]).expect(0);
    assert!(!is_frozen());
    assert_eq!(ctl.json(["inspect", "job"])["paused"], false);
    gate.write_line("go");
    ctl.wait("job", 4);
    let record = ctl.json(["inspect", "job"]);
    assert_eq!(record["paused"], false);
    assert!(
        record["usage"]["io_written_bytes"].is_null()
            || record["usage"]["io_written_bytes"].is_u64()
    );
    let ended = ctl.run(["pause", "job"]).expect(1);
    assert!(ended.err().contains("execution 1 is failed"), "{ended:?}");
}

#[test]
fn what_a_running_command_uses_is_measured_for_the_whole_tree() {
    let Some(keeper) = Keeper::start_or_skip("the current usage of a cgroup") else {
        return;
    };
    let daemon = keeper.daemon().leave_commands().start();
    let up = daemon.home().fifo("up");
    // A child does all the work, and has been reaped when its parent says so.
    let work = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done";
    let script = format!("sh -c '{work}'; echo up > {}; exec sleep 1000", up.name());
    let id = daemon.ctl().line(["submit", "--shell", &script]);
    assert_eq!(up.read_line(), "up");
    let check = |daemon: &Daemon| {
        let ctl = daemon.ctl();
        let usage = ctl.inspect(&id)["usage_now"].clone();
        let user = usage["cpu_user_ms"].as_u64().expect("CPU time is counted");
        assert!(
            user + usage["cpu_system_ms"].as_u64().unwrap() > 0,
            "{usage}"
        );
        let shown = ctl.run(["inspect", &id]).expect(0);
        assert!(shown.out().contains("cpu so far: "), "{shown:?}");
        // Where there are controllers, what they count is shown, and what is missing is named.
        for (figure, file) in [
            ("memory_bytes", "memory.current"),
            ("tasks", "pids.current"),
        ] {
            let is_counted = keeper.cgroup_of(1, &id).join(file).exists();
            assert_eq!(usage[figure].is_u64(), is_counted, "{usage}");
            let missing = usage["not_measured"].as_array().unwrap();
            assert_ne!(missing.contains(&figure.into()), is_counted, "{usage}");
        }
    };
    check(&daemon);
    let _ = daemon.ctl().run(["pause", &id]).expect(0);
    check(&daemon);
    let _ = daemon.stop();
    let daemon = keeper.daemon().start();
    check(&daemon);
    let _ = daemon.ctl().run(["cancel", &id]).expect(0);
    daemon.ctl().wait(&id, 128 + 15);
    assert!(daemon.ctl().inspect(&id)["usage_now"].is_null());
}

#[test]
fn a_pause_outlives_escherd() {
    let Some(keeper) = Keeper::start_or_skip("a pause over a restart of escherd") else {
        return;
    };
    let daemon = keeper.daemon().leave_commands().start();
    let id = start_command(&daemon);
    let _ = daemon.ctl().run(["pause", &id]).expect(0);
    let _ = daemon.stop();
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    assert_eq!(ctl.json(["inspect", &id])["paused"], true);
    let _ = ctl.run(["cancel", &id]).expect(0);
    ctl.wait(&id, 128 + 15);
}

#[test]
fn a_killed_launcher_is_replaced_and_leftovers_of_a_killed_shim_are_ended() {
    let Some(keeper) = Keeper::start_or_skip("killed launchers and shims under a keeper") else {
        return;
    };
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    let id = start_command(&daemon);
    let launcher = ctl.json(["info"])["launcher_pid"]
        .as_i64()
        .expect("a launcher");
    kill(
        Pid::from_raw(i32::try_from(launcher).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    // Without a ready shim these wait for another launcher.
    for _ in 0..10 {
        let _ = ctl.run(["run", "true"]).expect(0);
    }
    let command = ctl.json(["inspect", &id])["pid"]
        .as_i64()
        .expect("a process");
    let command = Pid::from_raw(i32::try_from(command).unwrap());
    let shim = escher_tests::parent_of(command).expect("its shim");
    kill(shim, Signal::SIGKILL).unwrap();
    ctl.wait(&id, 125);
    let record = ctl.json(["inspect", &id]);
    assert_eq!(record["status"], "lost", "{record}");
    assert_ne!(record["leftovers"], "unknown", "{record}");
    assert!(!keeper.cgroup_of(1, &id).exists());
}

#[test]
fn sigterm_to_the_keeper_cancels_everything_and_escherd_stays() {
    let Some(keeper) = Keeper::start_or_skip("the stop of a keeper") else {
        return;
    };
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    let id = start_command(&daemon);
    drop(keeper);
    ctl.wait(&id, 128 + 15);
    let record = ctl.json(["inspect", &id]);
    assert_eq!(record["status"], "cancelled", "{record}");
    assert_eq!(record["cancelled_by"], "host", "{record}");
}

#[test]
fn a_launcher_with_another_directory_than_escherd_is_refused_with_both_named() {
    let Some(keeper) = Keeper::start_or_skip("directories of a launcher service") else {
        return;
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let config = format!(
        "[execution]\nlog_dir = {:?}\n",
        elsewhere.path().join("logs")
    );
    let daemon = keeper
        .daemon()
        .without_log_dir_option()
        .config(&config)
        .start();
    let log = daemon.log();
    for named in [
        "--log-dir".to_owned(),
        daemon.home().logs().display().to_string(),
        elsewhere.path().join("logs").display().to_string(),
    ] {
        assert!(log.contains(&named), "{named} in {log}");
    }
    assert!(
        !elsewhere.path().join("logs").exists(),
        "nothing was made there"
    );
    let diagnostics = daemon.ctl().run(["doctor"]);
    assert!(
        diagnostics.out().contains("commands wait"),
        "{diagnostics:?}"
    );
}
