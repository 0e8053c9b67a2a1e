//! The good user, whose every result must be right.

use std::io::{BufRead, BufReader};

use crate::{Ctl, DEADLINE, Daemon, RunningProgram};

/// Runs commands one after the other, as this user, and checks all that is said of them.
pub(super) fn work(daemon: &Daemon, uid: u32, runs: u64) {
    let ctl = daemon.ctl().as_user(uid, uid, &[]);
    for number in 0..runs {
        run_to_its_end(&ctl, number);
        if number % 4 == 0 {
            cancel_one_that_runs(&ctl, number);
        }
    }
}

/// Runs a command that writes to both streams and exits with a status of its own.
fn run_to_its_end(ctl: &Ctl, number: u64) {
    let (name, status) = (
        format!("good-{number}"),
        i32::try_from(number % 100).unwrap(),
    );
    let script = format!("echo out {number}; echo err {number} >&2; exit {status}");
    let finished = ctl
        .run(["run", "-w", "/", "--name", &name, "--shell", &script])
        .expect(status);
    assert_eq!(finished.out(), format!("out {number}\n"));
    assert_eq!(finished.err(), format!("err {number}\n"));
    let record = ctl.inspect(&name);
    assert_eq!(record["exit_code"], status, "{record}");
    let result = ctl.json(["result", &name]);
    assert_eq!(result["stdout"], format!("out {number}\n"), "{result}");
    assert_eq!(result["stderr"], format!("err {number}\n"), "{result}");
}

/// Submits a command, waits until it runs, cancels it, and checks that nobody else did.
fn cancel_one_that_runs(ctl: &Ctl, number: u64) {
    let name = format!("sleeper-{number}");
    let submitted = ctl.submit([
        "-w",
        "/",
        "--name",
        &name,
        "--shell",
        "echo here; exec sleep 600",
    ]);
    let mut follower = RunningProgram::spawn_unread(ctl.command(["logs", "-f", &name]), DEADLINE);
    let mut line = String::new();
    BufReader::new(follower.stdout())
        .read_line(&mut line)
        .expect("it runs");
    assert_eq!(line, "here\n");
    let _ = ctl.run(["cancel", &name]).expect(0);
    ctl.wait(submitted, 128 + 15);
    let _ = follower.wait().expect(0);
}
