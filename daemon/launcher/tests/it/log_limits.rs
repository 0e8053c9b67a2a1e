//! Limits of logs, and commands that reach them.

use std::fs;
use std::path::Path;

use escher_launcher::ipc::wire::{
    Assignment, EndCause, ExitReport, LaunchSpec, LogLimits, WhenLogFull,
};
use escher_protocol::{Exit, OutputTotals};

use crate::commands::{assignment, with_input};
use crate::small_disk::with_a_small_disk;
use crate::{Launcher, Output, Shim, require_root, shell};
use escher_testkit::fill_disk;

fn limited(spec: &LaunchSpec, log_limits: LogLimits) -> Assignment {
    Assignment {
        log_limits,
        ..assignment(spec.clone())
    }
}

fn at_most(max_bytes: u64, when_full: WhenLogFull) -> LogLimits {
    LogLimits {
        max_bytes,
        when_full,
        ..LogLimits::default()
    }
}

fn run(shim: &Shim, spec: &LaunchSpec, limits: LogLimits) -> ExitReport {
    shim.assign(&limited(spec, limits));
    shim.finish()
}

fn totals(stdout: u64, stderr: u64, log: u64) -> OutputTotals {
    OutputTotals {
        stdout_bytes: stdout,
        stderr_bytes: stderr,
        log_bytes: log,
        dropped_bytes: stdout + stderr - log,
    }
}

#[test]
fn a_log_of_exactly_the_limit_drops_nothing() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    for when_full in [WhenLogFull::Drain, WhenLogFull::Kill] {
        let spec = shell("printf 12345; printf 67890 >&2; exit 3");
        let report = run(&shim, &spec, at_most(10, when_full));
        assert_eq!(report.exit, Exit::Code(3));
        assert_eq!(report.cause, EndCause::Itself);
        assert_eq!(report.output, totals(5, 5, 10));
    }
}

#[test]
fn one_byte_over_the_limit_is_dropped_and_counted() {
    let launcher = Launcher::start();
    let spec = shell("printf 12345678901; exit 3");
    let report = run(&launcher.shim(), &spec, at_most(10, WhenLogFull::Drain));
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(3), EndCause::Itself)
    );
    assert_eq!(report.output, totals(11, 0, 10));
    assert_eq!(Output::of(&launcher, spec.id).text(), "1234567890");
}

#[test]
fn a_full_log_does_not_end_a_command_whose_output_is_drained() {
    let launcher = Launcher::start();
    let spec = shell("seq 1 100000; seq 1 1000 >&2; exit 3");
    let limits = at_most(100_000, WhenLogFull::Drain);
    let report = run(&launcher.shim(), &spec, limits);
    assert_eq!(report.exit, Exit::Code(3));
    assert_eq!(report.output, totals(588_895, 3_893, 100_000));
    let whole = (1..=100_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    let output = Output::of(&launcher, spec.id);
    assert!(whole.as_bytes()[..100_000] == output.log);
    assert!(output.stderr().is_empty());
}

#[test]
fn a_command_is_ended_at_its_first_dropped_byte() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text = "trap 'printf late; exit 7' TERM; printf 1234567890; read -r line; printf x; \
        while :; do sleep 0.1; done";
    let spec = with_input(text);
    shim.assign(&limited(&spec, at_most(10, WhenLogFull::Kill)));
    shim.receive_started();
    assert_eq!(shim.log_longer_than(9), 10);
    shim.input("go\n", true);
    let report = shim.finish();
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(7), EndCause::LogFull)
    );
    assert_eq!(report.ladder_signal, Some(libc::SIGTERM));
    // On stderr the shell may report that the sleep was terminated.
    assert_eq!(report.output.stdout_bytes, 15);
    assert_eq!(report.output.log_bytes, 10);
    assert_eq!(report.output.dropped_bytes, 5 + report.output.stderr_bytes);
    assert_eq!(Output::of(&launcher, spec.id).text(), "1234567890");
}

#[test]
fn a_command_with_a_full_log_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let launcher = Launcher::start();
    let spec = LaunchSpec {
        kill_grace_ms: 100,
        ..shell("trap '' TERM; exec yes")
    };
    let limits = at_most(1_000_000, WhenLogFull::Kill);
    let report = run(&launcher.shim(), &spec, limits);
    assert_eq!(report.cause, EndCause::LogFull);
    assert_eq!(report.ladder_signal, Some(libc::SIGKILL));
    assert_eq!(report.output.log_bytes, 1_000_000);
    assert_eq!(Output::of(&launcher, spec.id).log, b"y\n".repeat(500_000));
}

#[test]
fn an_earlier_cancel_stays_the_cause_when_the_log_is_full() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text =
        "trap 'printf 12345678901; exit 7' TERM; printf ready >&2; while :; do sleep 0.1; done";
    let spec = shell(text);
    shim.assign(&limited(&spec, at_most(5, WhenLogFull::Kill)));
    shim.receive_started();
    shim.log_longer_than(0);
    shim.cancel(false);
    let report = shim.finish();
    let cause = EndCause::Cancelled(crate::shim::cancelling_user());
    assert_eq!((report.exit, report.cause), (Exit::Code(7), cause));
    assert!(report.output.dropped_bytes >= 11);
}

fn log_of(logs: &Path, spec: &LaunchSpec) -> Vec<u8> {
    fs::read(logs.join(format!("{}.log", spec.id))).unwrap()
}

#[test]
fn the_log_leaves_the_reserved_disk_space_free() {
    if !require_root("a disk that is nearly full") {
        return;
    }
    let (launcher, logs) = with_a_small_disk("--log-dir", 8 * 1024);
    let shim = launcher.shim();
    let limits = |when_full| LogLimits {
        min_free_bytes: 4 * 1024 * 1024,
        when_full,
        ..LogLimits::default()
    };
    // The first command leaves only the reserved space free, so nothing of the second is logged.
    let spec = shell("head -c 20000000 /dev/zero; exit 3");
    let report = run(&shim, &spec, limits(WhenLogFull::Drain));
    assert_eq!(report.exit, Exit::Code(3));
    let log = log_of(&logs, &spec).len() as u64;
    assert_eq!(report.output, totals(20_000_000, 0, log));
    // The index has a page of its own.
    let most = 4 * 1024 * 1024;
    assert!((most - 16 * 1024..=most).contains(&log), "{log}");

    let spec = shell("echo no room; exec sleep 1000");
    let report = run(&shim, &spec, limits(WhenLogFull::Kill));
    assert_eq!(report.cause, EndCause::LogFull);
    assert_eq!(report.output.log_bytes, 0);
    assert!(!logs.join(format!("{}.log", spec.id)).exists());

    // Without the limit there is space.
    let spec = shell("echo room");
    let report = run(&shim, &spec, LogLimits::default());
    assert_eq!(report.output, totals(5, 0, 5));
}

#[test]
fn a_full_disk_ends_a_command_if_its_limits_say_so() {
    if !require_root("a full disk that ends commands") {
        return;
    }
    let (launcher, logs) = with_a_small_disk("--log-dir", 256);
    fill_disk(&logs, 64 * 1024);
    let limits = |when_full| LogLimits {
        when_full,
        ..LogLimits::default()
    };
    let spec = shell("seq 1 100000; exec sleep 1000");
    let report = run(&launcher.shim(), &spec, limits(WhenLogFull::Kill));
    assert_eq!(report.cause, EndCause::LogFull);
    let log = log_of(&logs, &spec);
    let output = report.output;
    assert_eq!(output.log_bytes, log.len() as u64);
    assert_eq!(output.log_bytes + output.dropped_bytes, output.stdout_bytes);
    let whole = (1..=100_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    assert!(whole.as_bytes().starts_with(&log));
}
