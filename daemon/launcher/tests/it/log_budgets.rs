//! Budgets of logs: a shim asks escherd for more, and manages without an answer for a while.

use escher_launcher::ipc::wire::{
    Assignment, EndCause, ExitReport, FromShim, LaunchSpec, LogLimits, ToShim, WhenLogFull,
};
use escher_protocol::Exit;

use crate::commands::{assignment, shell_with};
use crate::{Fifo, Launcher, Output, Shim, shell};

const BUDGET: u64 = 256 * 1024;

/// Writes 1 MiB.
const LOUD: &str = "head -c 1048576 /dev/zero; exit 3";

const LOUD_BYTES: u64 = 1024 * 1024;

fn with_budget(spec: &LaunchSpec, when_full: WhenLogFull, max_bytes: u64) -> Assignment {
    Assignment {
        log_limits: LogLimits {
            when_full,
            max_bytes,
            min_free_bytes: 0,
        },
        log_budget: BUDGET,
        ..assignment(spec.clone())
    }
}

/// Runs a command to its end, and answers each request of its shim. Returns what was asked for, too.
fn run(
    shim: &Shim,
    assignment: &Assignment,
    answer: impl Fn(u64) -> u64,
) -> (ExitReport, Vec<u64>) {
    shim.assign(assignment);
    let mut requests = Vec::new();
    loop {
        match shim.receive() {
            Some(FromShim::LogBudgetWanted { bytes }) => {
                requests.push(bytes);
                let bytes = answer(bytes);
                shim.send(&ToShim::LogBudget { bytes });
            }
            Some(FromShim::Exited(report)) => {
                shim.send(&ToShim::Recorded);
                return (*report, requests);
            }
            Some(_) => {}
            None => panic!("the shim is gone"),
        }
    }
}

fn disk_bytes(launcher: &Launcher, report: &ExitReport) -> u64 {
    let output = Output::of(launcher, report.id);
    output.log.len() as u64 + output.index_bytes
}

#[test]
fn nothing_is_dropped_while_more_is_given() {
    let launcher = Launcher::start();
    let assignment = with_budget(&shell(LOUD), WhenLogFull::Kill, 0);
    let (report, requests) = run(&launcher.shim(), &assignment, |wanted| wanted);
    assert_eq!(
        (report.exit, &report.cause),
        (Exit::Code(3), &EndCause::Itself)
    );
    assert_eq!(report.output.log_bytes, LOUD_BYTES);
    let doubled = [2 * BUDGET, 4 * BUDGET, 8 * BUDGET, 16 * BUDGET];
    assert_eq!(requests, doubled);
}

#[test]
fn a_quiet_command_asks_for_nothing() {
    let launcher = Launcher::start();
    let spec = shell("head -c 100000 /dev/zero");
    let assignment = with_budget(&spec, WhenLogFull::Kill, 0);
    let (report, requests) = run(&launcher.shim(), &assignment, |wanted| wanted);
    assert_eq!(report.output.log_bytes, 100_000);
    assert!(requests.is_empty(), "{requests:?}");
}

#[test]
fn no_more_is_asked_for_than_the_longest_log_takes() {
    let launcher = Launcher::start();
    let limit = BUDGET + 1000;
    let assignment = with_budget(&shell(LOUD), WhenLogFull::Drain, limit);
    let (report, requests) = run(&launcher.shim(), &assignment, |wanted| wanted);
    assert_eq!(requests, [limit]);
    assert_eq!(disk_bytes(&launcher, &report), limit);
    let output = report.output;
    assert_eq!(output.log_bytes + output.dropped_bytes, LOUD_BYTES);
}

#[test]
fn a_refused_command_drops_output_or_is_ended() {
    let launcher = Launcher::start();
    for (when_full, cause) in [
        (WhenLogFull::Drain, EndCause::Itself),
        (WhenLogFull::Kill, EndCause::LogFull),
    ] {
        let assignment = with_budget(&shell(LOUD), when_full, 0);
        let (report, _) = run(&launcher.shim(), &assignment, |_| BUDGET + 1000);
        assert_eq!(report.cause, cause);
        assert!(report.output.dropped_bytes > 0, "{:?}", report.output);
        assert_eq!(disk_bytes(&launcher, &report), BUDGET + 1000);
    }
}

#[test]
fn a_refused_command_forgets_its_oldest_output() {
    let launcher = Launcher::start();
    let spec = shell("seq 1 300000");
    let assignment = with_budget(&spec, WhenLogFull::ForgetOldest, 1 << 30);
    let (report, _) = run(&launcher.shim(), &assignment, |_| BUDGET);
    let whole = (1..=300_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    let output = Output::of(&launcher, spec.id);
    assert_eq!(report.output.dropped_bytes, 0);
    assert_eq!(report.output.log_bytes, whole.len() as u64);
    let kept = whole.len() as u64 - output.forgotten;
    assert!((BUDGET / 2..BUDGET).contains(&kept), "{kept}");
    let start = usize::try_from(output.forgotten).unwrap();
    assert!(output.stdout() == whole.as_bytes()[start..]);
}

#[test]
fn without_escherd_the_budget_is_doubled_once() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let spec = shell_with(&format!("read -r line < \"$0\"; {LOUD}"), fifo.path());
    shim.assign(&with_budget(&spec, WhenLogFull::Drain, 0));
    shim.receive_started();
    let orphan = shim.disconnect();
    fifo.write_line("go");
    orphan.wait_for_end();
    let report = launcher.exit_record(spec.id);
    assert_eq!(report.exit, Exit::Code(3));
    assert_eq!(disk_bytes(&launcher, &report), 2 * BUDGET);
}

#[test]
fn the_next_escherd_is_told_of_the_budget_and_asked_for_more() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "head -c 200000 /dev/zero; read -r line < \"$0\"; head -c 848576 /dev/zero";
    let spec = shell_with(text, fifo.path());
    shim.assign(&with_budget(&spec, WhenLogFull::Kill, 0));
    shim.receive_started();
    // The request is not answered.
    let wanted = 2 * BUDGET;
    assert_eq!(
        shim.receive(),
        Some(FromShim::LogBudgetWanted { bytes: wanted })
    );
    let orphan = shim.disconnect();
    let shim = launcher.adopt(&orphan, spec.id);
    assert_eq!(shim.receive_state().log_budget, wanted, "it was doubled");
    fifo.write_line("go");
    loop {
        match shim.receive() {
            Some(FromShim::LogBudgetWanted { bytes }) => shim.send(&ToShim::LogBudget { bytes }),
            Some(FromShim::Exited(report)) => {
                shim.send(&ToShim::Recorded);
                assert_eq!(report.output.log_bytes, LOUD_BYTES);
                assert_eq!(report.cause, EndCause::Itself);
                return;
            }
            other => drop(other.expect("the shim is gone")),
        }
    }
}
