//! The exit statuses of `run`, `attach` and `wait`: the command's own, or those of escher.

use std::sync::Arc;

use escher_tests::{
    Ctl, Daemon, Home, child_program, is_unlocked, run_program, with_growing_timeout,
};
use serde_json::Value;

#[test]
fn a_successful_command_gives_0_and_no_output_of_eschers_own() {
    let daemon = Daemon::start();
    let ended = daemon.ctl().run(["run", "true"]).expect(0);
    assert!(
        ended.stdout.is_empty() && ended.stderr.is_empty(),
        "{ended:?}"
    );
}

#[test]
fn exit_statuses_of_commands_are_passed_on() {
    let daemon = Daemon::start();
    for status in [1, 7, 124, 125, 126, 127, 128, 143, 255] {
        let ended = daemon
            .ctl()
            .run(["run", "sh", "-c", &format!("exit {status}")]);
        assert!(
            ended.expect(status).stderr.is_empty(),
            "escher adds nothing of its own"
        );
    }
}

#[test]
fn death_by_a_signal_gives_128_plus_its_number() {
    let daemon = Daemon::start();
    for (signal, status) in [("KILL", 137), ("TERM", 143), ("ABRT", 134), ("PIPE", 141)] {
        let script = format!("kill -{signal} $$");
        let _ = daemon
            .ctl()
            .run(["run", "sh", "-c", &script])
            .expect(status);
    }
}

#[test]
fn a_timeout_gives_124_with_a_message() {
    let daemon = Daemon::start();
    let ended = daemon
        .ctl()
        .run(["run", "--timeout", "300ms", "sleep", "600"])
        .expect(124);
    assert!(ended.stdout.is_empty());
    assert_eq!(ended.err().lines().count(), 1, "{ended:?}");
    assert!(ended.err().contains("timed out"), "{ended:?}");
    let quiet = daemon
        .ctl()
        .run(["run", "-q", "--timeout", "300ms", "sleep", "600"])
        .expect(124);
    assert!(quiet.stderr.is_empty(), "{quiet:?}");
}

#[test]
fn a_timeout_that_takes_a_sigkill_gives_124_too() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let ended = with_growing_timeout(|timeout| {
        let timeout = format!("{}ms", timeout.as_millis());
        let options = ["run", "--timeout", &timeout, "--kill-after", "200ms", "--"];
        let mut command = daemon.ctl().command(options);
        command
            .arg(child_program())
            .arg("ignore-sigterm")
            .arg(&lock);
        let ended = run_program(command).expect(124);
        (!ended.stdout.is_empty()).then_some(ended)
    });
    assert_eq!(ended.out(), "ready\n");
    assert!(is_unlocked(&lock), "it was killed");
}

#[test]
fn a_command_that_exits_with_0_on_sigterm_was_timed_out() {
    let daemon = Daemon::start();
    let script = "trap 'echo caught; exit 0' TERM; while :; do sleep 1; done";
    let ended = with_growing_timeout(|timeout| {
        let timeout = format!("{}ms", timeout.as_millis());
        let words = ["run", "--timeout", &timeout, "sh", "-c", script];
        let ended = daemon.ctl().run(words).expect(124);
        (!ended.stdout.is_empty()).then_some(ended)
    });
    assert_eq!(ended.out(), "caught\n");
}

#[test]
fn a_missing_escherd_gives_125() {
    let home = Arc::new(Home::new());
    let ended = Ctl::new(home.clone()).run(["run", "true"]).expect(125);
    assert!(
        ended.err().contains(home.socket().to_str().unwrap()),
        "{ended:?}"
    );
}

#[test]
fn a_timeout_over_the_maximum_gives_125_with_both_values() {
    let daemon = Daemon::with_config("[execution]\nmax_timeout_ms = 600000\n");
    let ended = daemon
        .ctl()
        .run(["run", "--timeout", "11m", "true"])
        .expect(125);
    assert!(
        ended.err().contains("11m") && ended.err().contains("10m (execution.max_timeout_ms)"),
        "{ended:?}"
    );
    let ended = daemon
        .ctl()
        .run(["run", "--timeout", "none", "true"])
        .expect(125);
    assert!(
        ended
            .err()
            .contains("no timeout is over the maximum of 10m"),
        "{ended:?}"
    );
    let origin = "raise execution.max_timeout_ms, which is set by: ";
    assert!(ended.err().contains(origin), "{ended:?}");
    let ended = daemon
        .ctl()
        .run(["submit", "--timeout", "11m", "true"])
        .expect(1);
    assert!(ended.stdout.is_empty());
}

#[test]
fn without_a_maximum_any_timeout_is_allowed_and_none() {
    let daemon = Daemon::with_config("[execution]\nmax_timeout_ms = 0\ndefault_timeout_ms = 0\n");
    for timeout in ["none", "400d"] {
        let _ = daemon
            .ctl()
            .run(["run", "--timeout", timeout, "true"])
            .expect(0);
    }
    let id = daemon.ctl().submit(["true"]);
    daemon.ctl().wait(id, 0);
    assert_eq!(daemon.ctl().inspect(id)["timeout_ms"], Value::Null);
}

#[test]
fn a_usage_error_gives_125_with_run_and_2_with_other_verbs() {
    let daemon = Daemon::start();
    for arguments in [
        &["run"][..],
        &["run", "--no-such-flag", "true"],
        &["run", "--timeout", "5x", "true"],
        &["run", "--label", "novalue", "true"],
    ] {
        let ended = daemon.ctl().run(arguments).expect(125);
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty());
    }
    for arguments in [
        &["submit"][..],
        &["inspect"],
        &["ps", "--no-such-flag"],
        &["logs"],
    ] {
        let _ = daemon.ctl().run(arguments).expect(2);
    }
}

#[test]
fn a_missing_program_gives_127_and_one_that_cannot_start_126() {
    let daemon = Daemon::start();
    let plain = daemon.home().file("plain", "#!/bin/sh\n", 0o644);
    let ended = daemon.ctl().run(["run", "no-such-program"]).expect(127);
    assert!(
        ended.stdout.is_empty() && !ended.stderr.is_empty(),
        "{ended:?}"
    );
    let _ = daemon
        .ctl()
        .run(["run", plain.to_str().unwrap()])
        .expect(126);
}

#[test]
fn a_cancelled_command_gives_128_plus_the_signal_that_ended_it() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo up > {}; exec sleep 600", ready.name());
    let run = daemon
        .ctl()
        .start(["run", "--name", "sleeper", "sh", "-c", &script]);
    assert_eq!(ready.read_line(), "up");
    let _ = daemon.ctl().run(["cancel", "sleeper"]).expect(0);
    let ended = run.wait().expect(143);
    assert!(ended.err().contains("cancelled"), "{ended:?}");
}

#[test]
fn a_command_killed_from_outside_gives_137() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo up > {}; exec sleep 600", ready.name());
    let run = daemon
        .ctl()
        .start(["run", "--name", "sleeper", "sh", "-c", &script]);
    assert_eq!(ready.read_line(), "up");
    let _ = daemon
        .ctl()
        .run(["kill", "-s", "KILL", "sleeper"])
        .expect(0);
    let _ = run.wait().expect(137);
    assert_eq!(daemon.ctl().inspect("sleeper")["status"], "failed");
}

#[test]
fn wait_and_attach_give_the_same_status_as_run() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    for (arguments, status) in [
        (vec!["true"], 0),
        (vec!["sh", "-c", "exit 7"], 7),
        (vec!["sh", "-c", "kill -9 $$"], 137),
        (vec!["--timeout", "200ms", "sleep", "600"], 124),
        (vec!["no-such-program"], 127),
        (vec!["/"], 126),
    ] {
        let id = ctl.submit(&arguments).to_string();
        ctl.wait(&id, status);
        let _ = ctl.run(["attach", &id]).expect(status);
    }
}

#[test]
fn wait_on_several_gives_0_only_if_all_completed() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let good = [
        ctl.submit(["true"]).to_string(),
        ctl.submit(["true"]).to_string(),
    ];
    let bad = ctl.submit(["sh", "-c", "exit 3"]).to_string();
    let _ = ctl.run(["wait", &good[0], &good[1]]).expect(0);
    assert_ne!(ctl.run(["wait", &good[0], &bad, &good[1]]).code, 0);
}
