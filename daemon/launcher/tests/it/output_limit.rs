//! Commands that write more than they may.

use std::fs;

use escher_launcher::ipc::wire::{Assignment, EndCause, ExitReport, LaunchSpec};
use escher_protocol::{Exit, Leftovers, OutputTotals};

use crate::commands::{assignment, with_input};
use crate::shim::cancelling_user;
use crate::{Launcher, Output, Shim, exec, shell};

fn launch(shim: &Shim, spec: &LaunchSpec, limit: u64) {
    shim.assign(&Assignment {
        output_limit: Some(limit),
        ..assignment(spec.clone())
    });
}

fn start(shim: &Shim, spec: &LaunchSpec, limit: u64) {
    launch(shim, spec, limit);
    shim.receive_started();
}

fn run(shim: &Shim, spec: &LaunchSpec, limit: u64) -> ExitReport {
    launch(shim, spec, limit);
    shim.finish()
}

/// The totals of a log without dropped bytes.
fn totals(stdout: u64, stderr: u64) -> OutputTotals {
    OutputTotals {
        stdout_bytes: stdout,
        stderr_bytes: stderr,
        log_bytes: stdout + stderr,
        dropped_bytes: 0,
        forgotten_bytes: 0,
        reserved_bytes: 0,
    }
}

/// The command ignores SIGTERM and exits at once: it ends by itself, whether the shim has read its
/// last bytes before that or not.
#[test]
fn output_up_to_the_limit_is_allowed_and_one_byte_more_is_oversized() {
    const LIMIT: u64 = 1_000;
    let launcher = Launcher::start();
    let shim = launcher.shim();
    for size in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 100 * LIMIT] {
        for (redirection, output) in [("", totals(size, 0)), (" >&2", totals(0, size))] {
            for status in [0, 5] {
                let text =
                    format!("trap '' TERM; head -c {size} /dev/zero{redirection}; exit {status}");
                let report = run(&shim, &shell(&text), LIMIT);
                let cause = if size <= LIMIT {
                    EndCause::Itself
                } else {
                    EndCause::OversizedOutput
                };
                let found = (report.exit, report.cause, report.output);
                assert_eq!(found, (Exit::Code(status), cause, output), "{text}");
            }
        }
    }
}

#[test]
fn a_command_is_ended_at_the_first_byte_over_its_limit() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text = "trap 'printf late; exit 7' TERM; printf 1234567890; read -r line; printf x; \
        while :; do sleep 0.1; done";
    let spec = with_input(text);
    start(&shim, &spec, 10);
    assert_eq!(shim.log_longer_than(9), 10);
    shim.input("go\n", true);
    let report = shim.finish();
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(7), EndCause::OversizedOutput)
    );
    assert_eq!(report.ladder_signal, Some(libc::SIGTERM));
    // Output until the end of the command is logged.
    assert_eq!(
        (report.output.stdout_bytes, report.output.dropped_bytes),
        (15, 0)
    );
    assert_eq!(Output::of(&launcher, spec.id).stdout(), b"1234567890xlate");
}

#[test]
fn a_command_over_its_limit_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let launcher = Launcher::start();
    let spec = LaunchSpec {
        kill_grace_ms: 100,
        ..shell("trap '' TERM; printf 12345678901; exec sleep 1000")
    };
    let report = run(&launcher.shim(), &spec, 10);
    assert_eq!(report.cause, EndCause::OversizedOutput);
    assert_eq!(report.ladder_signal, Some(libc::SIGKILL));
    assert_eq!(report.output, totals(11, 0));
}

#[test]
fn the_limit_ends_processes_that_outlive_the_main_process() {
    let launcher = Launcher::start();
    // Its input ends with the main process.
    let text =
        "exec 3<&0; (trap '' TERM; read -r line; printf 12345678901; exec sleep 1000) <&3 & exit 0";
    let report = run(&launcher.shim(), &with_input(text), 10);
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(0), EndCause::OversizedOutput)
    );
    assert_eq!(report.leftovers, Leftovers::Killed);
    assert_eq!(report.output, totals(11, 0));
}

#[test]
fn the_limit_applies_to_each_stream_by_itself() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    for (text, cause) in [
        ("printf 1234567890; printf 1234567890 >&2", EndCause::Itself),
        (
            "printf 1234567890; printf 12345678901 >&2",
            EndCause::OversizedOutput,
        ),
    ] {
        assert_eq!(run(&shim, &shell(text), 10).cause, cause, "{text}");
    }
}

#[test]
fn a_limit_of_zero_allows_no_output() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    assert_eq!(run(&shim, &exec(["true"]), 0).cause, EndCause::Itself);
    let report = run(&shim, &shell("printf x"), 0);
    assert_eq!(report.cause, EndCause::OversizedOutput);
}

#[test]
fn a_limit_applies_to_one_command_also_if_assigned_in_memory() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    // Through memory.
    let mut long = shell("printf x");
    long.argv.push(vec![b'x'; 100_000].into());
    assert_eq!(run(&shim, &long, 0).cause, EndCause::OversizedOutput);
    let report = shim.run(&shell("printf x; exit 3"));
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(3), EndCause::Itself)
    );
}

#[test]
fn an_earlier_cancel_stays_the_cause_of_a_command_over_its_limit() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text =
        "trap 'printf 12345678901; exit 7' TERM; printf ready >&2; while :; do sleep 0.1; done";
    start(&shim, &shell(text), 10);
    shim.log_longer_than(0);
    shim.cancel(false);
    let report = shim.finish();
    let cause = EndCause::Cancelled(cancelling_user());
    assert_eq!((report.exit, report.cause), (Exit::Code(7), cause));
    assert_eq!(report.output.stdout_bytes, 11);
}

#[test]
fn a_missing_program_is_not_oversized_output() {
    let launcher = Launcher::start();
    let report = run(&launcher.shim(), &exec(["/nonexistent"]), 0);
    assert_eq!(report.cause, EndCause::Itself);
    assert!(matches!(report.exit, Exit::NotStarted { .. }));
}

#[test]
fn the_limit_is_enforced_without_escherd() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("printf 12345678901; exec sleep 1000");
    launch(&shim, &spec, 10);
    shim.wait_for_end();
    let record = launcher.exit_record(spec.id);
    assert_eq!(record.cause, EndCause::OversizedOutput);
    assert_eq!(record.ladder_signal, Some(libc::SIGTERM));
}

#[test]
fn oversized_output_stays_the_cause_across_an_adoption() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("trap '' TERM; printf 12345678901; exec sleep 1000");
    start(&shim, &spec, 10);
    shim.log_longer_than(10);
    let orphan = shim.disconnect();
    let shim = launcher.adopt(&orphan, spec.id);
    shim.receive_state();
    shim.cancel(true);
    assert_eq!(shim.finish().cause, EndCause::OversizedOutput);
}

#[test]
fn a_hundred_megabytes_over_the_limit_take_no_memory() {
    const MIB: u64 = 1024 * 1024;
    let launcher = Launcher::start();
    let shim = launcher.shim();
    shim.run(&shell("head -c 1000000 /dev/zero"));
    let before = peak_memory_bytes(shim.pid());
    // It ignores SIGTERM, and its grace period is long.
    let spec = shell("trap '' TERM; head -c 100000000 /dev/zero; exit 5");
    let report = run(&shim, &spec, 10 * MIB);
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(5), EndCause::OversizedOutput)
    );
    assert_eq!(report.output, totals(100_000_000, 0));
    assert_eq!(
        fs::metadata(launcher.log(spec.id)).unwrap().len(),
        100_000_000
    );
    let grown = peak_memory_bytes(shim.pid()) - before;
    assert!(grown < MIB, "{grown} bytes more");
}

/// The largest resident set that a process ever had (proc_pid_status(5)).
fn peak_memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}
