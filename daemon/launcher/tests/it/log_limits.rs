//! Limits of logs, and commands that reach them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_launcher::ipc::log_index::{HEADER_BYTES, RECORD_BYTES};
use escher_launcher::ipc::wire::{
    Assignment, EndCause, ExitReport, FromShim, LaunchSpec, LogLimits, ToShim, WhenLogFull,
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

/// Bytes of an index with this many records, and the space that is kept for one more.
fn index(records: u64) -> u64 {
    HEADER_BYTES as u64 + (records + 1) * RECORD_BYTES as u64
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
        forgotten_bytes: 0,
        reserved_bytes: 0,
    }
}

#[test]
fn a_log_of_exactly_the_limit_drops_nothing() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    for when_full in [WhenLogFull::Drain, WhenLogFull::Kill] {
        let spec = shell("printf 12345; printf 67890 >&2; exit 3");
        let report = run(&shim, &spec, at_most(10 + index(2), when_full));
        assert_eq!(report.exit, Exit::Code(3));
        assert_eq!(report.cause, EndCause::Itself);
        assert_eq!(report.output, totals(5, 5, 10));
    }
}

#[test]
fn one_byte_over_the_limit_is_dropped_and_counted() {
    let launcher = Launcher::start();
    let spec = shell("printf 12345678901; exit 3");
    let limits = at_most(10 + index(1), WhenLogFull::Drain);
    let report = run(&launcher.shim(), &spec, limits);
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(3), EndCause::Itself)
    );
    assert_eq!(report.output, totals(11, 0, 10));
    let output = Output::of(&launcher, spec.id);
    assert_eq!(output.text(), "1234567890");
    assert_eq!(output.missing, [(10, 0)]);
    assert_eq!(output.index_bytes + 10, limits.max_bytes);
}

#[test]
fn a_full_log_does_not_end_a_command_whose_output_is_drained() {
    let launcher = Launcher::start();
    let spec = shell("seq 1 100000; seq 1 1000 >&2; exit 3");
    let limits = at_most(100_000, WhenLogFull::Drain);
    let report = run(&launcher.shim(), &spec, limits);
    assert_eq!(report.exit, Exit::Code(3));
    let output = Output::of(&launcher, spec.id);
    let log_bytes = output.log.len() as u64;
    assert_eq!(report.output, totals(588_895, 3_893, log_bytes));
    // The index has the rest.
    assert_eq!(log_bytes + output.index_bytes, 100_000);
    assert_eq!(output.missing, [(log_bytes, 0)]);
    let whole = (1..=100_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    assert!(whole.as_bytes().starts_with(&output.log));
    assert!(output.stderr().is_empty());
}

/// A command that changes its stream with each byte makes an index of 16 times its log.
#[test]
fn the_index_of_a_command_that_alternates_its_streams_counts_towards_the_limit() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text = r#"while read -r n; do printf o; read -r n; printf e >&2; done"#;
    let spec = with_input(text);
    let limit = 20_000;
    shim.assign(&limited(&spec, at_most(limit, WhenLogFull::Drain)));
    shim.receive_started();
    // Each byte is written once the one before it is in the log, as long as that grows.
    let most = (limit - index(0)) / 17;
    for written in 0..most {
        shim.send(&ToShim::Watch {
            known_bytes: written,
        });
        shim.input("\n", false);
        while !matches!(shim.receive(), Some(FromShim::LogGrew { .. })) {}
    }
    shim.input("\n", true);
    let report = shim.finish();
    assert_eq!(report.output.log_bytes, most);
    assert_eq!(report.output.dropped_bytes, 1);
    let output = Output::of(&launcher, spec.id);
    assert_eq!(output.pieces.len() as u64, most);
    assert_eq!(output.missing, [(most, 0)]);
    let bytes = most + output.index_bytes;
    assert!(bytes <= limit && bytes + 17 > limit, "{bytes}");
}

/// Bytes that a file takes on its disk.
fn disk_bytes(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

const FORGETTING: u64 = 256 * 1024;

#[test]
fn a_log_that_forgets_keeps_the_newest_output_within_its_limit() {
    let launcher = Launcher::start();
    let spec = shell("seq 1 1000000; exit 3");
    let limits = at_most(FORGETTING, WhenLogFull::ForgetOldest);
    let report = run(&launcher.shim(), &spec, limits);
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(3), EndCause::Itself)
    );
    let whole = (1..=1_000_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    let output = Output::of(&launcher, spec.id);
    let forgotten = output.forgotten;
    let expected = OutputTotals {
        forgotten_bytes: forgotten,
        reserved_bytes: 0,
        ..totals(whole.len() as u64, 0, whole.len() as u64)
    };
    assert_eq!(report.output, expected);
    let start = usize::try_from(forgotten).unwrap();
    assert!(output.log[start..] == whole.as_bytes()[start..]);
    assert!(output.stdout() == whole.as_bytes()[start..]);
    // Holes consist of whole blocks, and so does what is left.
    let files = [launcher.log(spec.id), launcher.index(spec.id)];
    let on_disk: u64 = files.iter().map(|path| disk_bytes(path)).sum();
    assert!(on_disk <= FORGETTING + 2 * 4096, "{on_disk}");
    assert!(whole.len() as u64 - forgotten > FORGETTING / 2);
}

#[test]
fn a_log_that_forgets_is_exact_where_its_streams_alternate() {
    let launcher = Launcher::start();
    let spec = shell("i=0; while [ $i -lt 20000 ]; do echo $i; echo $i >&2; i=$((i+1)); done");
    let limits = at_most(64 * 1024, WhenLogFull::ForgetOldest);
    let report = run(&launcher.shim(), &spec, limits);
    assert_eq!(report.output.dropped_bytes, 0);
    let output = Output::of(&launcher, spec.id);
    let lines = (0..20_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    for stream in [output.stdout(), output.stderr()] {
        assert!(stream.len() > 1000, "{}", stream.len());
        assert!(lines.as_bytes().ends_with(&stream));
    }
    let index = disk_bytes(&launcher.index(spec.id));
    assert!(index <= 64 * 1024 + 4096, "{index}");
    let kept = report.output.log_bytes - output.forgotten;
    assert_eq!((output.stdout().len() + output.stderr().len()) as u64, kept);
}

#[test]
fn a_command_is_ended_at_its_first_dropped_byte() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text = "trap 'printf late; exit 7' TERM; printf 1234567890; read -r line; printf x; \
        while :; do sleep 0.1; done";
    let spec = with_input(text);
    shim.assign(&limited(&spec, at_most(10 + index(1), WhenLogFull::Kill)));
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
    let output = Output::of(&launcher, spec.id);
    assert_eq!(report.output.log_bytes, output.log.len() as u64);
    assert_eq!(output.log.len() as u64 + output.index_bytes, 1_000_000);
    assert!(b"y\n".repeat(500_000).starts_with(&output.log));
}

#[test]
fn an_earlier_cancel_stays_the_cause_when_the_log_is_full() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text =
        "trap 'printf 12345678901; exit 7' TERM; printf ready >&2; while :; do sleep 0.1; done";
    let spec = shell(text);
    shim.assign(&limited(&spec, at_most(5 + index(1), WhenLogFull::Kill)));
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
