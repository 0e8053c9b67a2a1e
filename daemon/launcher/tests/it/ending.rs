//! The ends of commands: signals, the kill ladder, timeouts, leftovers.

use escher_launcher::ipc::wire::{EndCause, ExitReport, LaunchSpec, ToShim};
use escher_protocol::{CancelMode, Canceller, Exit, Leftovers, SignalRecipients};

use crate::commands::shell_with;
use crate::shim::cancelling_user;
use crate::{Fifo, Launcher, Output, Shim, exec, raw, shell};
use escher_testkit::wait::{readable, with_growing_timeout};

/// A command that ignores SIGTERM, and prints `ready` as soon as it does.
const STUBBORN: &str = "trap '' TERM; echo ready; exec sleep 1000";

const TERM: Exit = Exit::Signal {
    signal: libc::SIGTERM,
    core_dumped: false,
};
const KILL: Exit = Exit::Signal {
    signal: libc::SIGKILL,
    core_dumped: false,
};

fn with_grace(kill_grace_ms: u64, text: &str) -> LaunchSpec {
    LaunchSpec {
        kill_grace_ms,
        ..shell(text)
    }
}

/// With a drain that no test reaches.
fn with_long_drain(spec: LaunchSpec) -> LaunchSpec {
    LaunchSpec {
        drain_ms: 600_000,
        ..spec
    }
}

/// Starts a command and waits for its first output.
fn start_ready(shim: &Shim, spec: &LaunchSpec) -> u32 {
    let pid = shim.start(spec);
    shim.log_longer_than(0);
    pid
}

fn end_of(report: &ExitReport) -> (Exit, EndCause, Option<i32>) {
    (report.exit, report.cause.clone(), report.ladder_signal)
}

#[test]
fn a_signal_reaches_the_main_process_and_begins_no_kill_ladder() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("trap 'echo caught; exit 6' USR1; echo ready; while :; do sleep 0.1; done");
    start_ready(&shim, &spec);
    let signal = libc::SIGUSR1;
    shim.send_signal(signal, SignalRecipients::MainProcess);
    assert_eq!(
        end_of(&shim.finish()),
        (Exit::Code(6), EndCause::Itself, None)
    );
    assert_eq!(Output::of(&launcher, spec.id).text(), "ready\ncaught\n");

    shim.start(&exec(["sleep", "1000"]));
    // A number that is no signal does nothing.
    shim.send_signal(1000, SignalRecipients::MainProcess);
    let signal = libc::SIGKILL;
    shim.send_signal(signal, SignalRecipients::MainProcess);
    assert_eq!(end_of(&shim.finish()), (KILL, EndCause::Itself, None));

    shim.start(&exec(["sleep", "1000"]));
    let signal = libc::SIGRTMIN() + 3;
    shim.send_signal(signal, SignalRecipients::MainProcess);
    let core_dumped = false;
    let exit = Exit::Signal {
        signal,
        core_dumped,
    };
    assert_eq!(shim.finish().exit, exit);
}

#[test]
fn a_signal_to_the_tree_reaches_every_process_and_begins_no_kill_ladder() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    // The other is in a session of its own, and ignores what is sent to the main process alone.
    let text = "trap 'exit 6' USR1
        setsid sh -c 'trap \"echo other; exit\" USR1; echo > \"$0\"; while :; do sleep 0.1; done' \"$0\" &
        read -r line < \"$0\"; echo ready; while :; do sleep 0.1; done";
    let spec = with_long_drain(shell_with(text, fifo.path()));
    start_ready(&shim, &spec);
    let signal = libc::SIGUSR1;
    shim.send_signal(signal, SignalRecipients::Tree);
    let report = shim.finish();
    assert_eq!(end_of(&report), (Exit::Code(6), EndCause::Itself, None));
    assert_eq!(report.leftovers, Leftovers::None);
    // On stderr the shells may report that their sleep was ended.
    assert_eq!(Output::of(&launcher, spec.id).stdout(), b"ready\nother\n");
}

#[test]
fn a_signal_to_the_tree_reaches_what_the_main_process_has_left() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_long_drain(shell("sleep 1000 & exit 0"));
    let main = raw::pidfd(shim.start(&spec));
    assert!(main.map_or(true, readable));
    for recipients in [SignalRecipients::MainProcess, SignalRecipients::Tree] {
        shim.send_signal(libc::SIGKILL, recipients);
    }
    let report = shim.finish();
    assert_eq!(end_of(&report), (Exit::Code(0), EndCause::Itself, None));
    assert_eq!(report.leftovers, Leftovers::None);
}

#[test]
fn cancel_sends_sigterm_first() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    shim.start(&exec(["sleep", "1000"]));
    shim.cancel(false);
    let cause = EndCause::Cancelled(cancelling_user());
    assert_eq!(
        end_of(&shim.finish()),
        (TERM, cause.clone(), Some(libc::SIGTERM))
    );

    let polite = shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done");
    start_ready(&shim, &polite);
    shim.cancel(false);
    let report = shim.finish();
    assert_eq!(end_of(&report), (Exit::Code(0), cause, Some(libc::SIGTERM)));
    // On stderr the shell may report that the sleep was terminated.
    assert_eq!(Output::of(&launcher, polite.id).stdout(), b"ready\nbye\n");
}

#[test]
fn cancel_reaches_the_whole_tree() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    // One child in the group, one in a session of its own, whose child is in yet another. After
    // `ready` no process is created any more: a process created at the moment of the signal would
    // only get SIGKILL.
    let spec =
        shell("sleep 1000 & setsid sh -c 'setsid sleep 1001 & echo ready; exec sleep 1002' & wait");
    start_ready(&shim, &spec);
    shim.cancel(false);
    let report = shim.finish();
    assert_eq!(report.exit, TERM);
    assert_eq!(report.leftovers, Leftovers::None);
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    start_ready(&shim, &with_grace(200, STUBBORN));
    shim.cancel(false);
    let report = shim.finish();
    let cause = EndCause::Cancelled(cancelling_user());
    assert_eq!(end_of(&report), (KILL, cause, Some(libc::SIGKILL)));
    assert!(report.duration_us >= 200_000);
}

#[test]
fn a_kill_does_not_wait_for_the_grace_period() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let cause = EndCause::Cancelled(cancelling_user());
    let killed = (KILL, cause, Some(libc::SIGKILL));
    start_ready(&shim, &shell(STUBBORN));
    shim.cancel(true);
    assert_eq!(end_of(&shim.finish()), killed);

    start_ready(&shim, &shell(STUBBORN));
    shim.cancel(false);
    let by = Canceller::Host;
    shim.send(&ToShim::Cancel {
        by,
        mode: CancelMode::Kill,
    });
    assert_eq!(end_of(&shim.finish()), killed, "the first cause stays");
}

#[test]
fn a_stopped_command_is_continued_so_that_it_can_end() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    start_ready(&shim, &shell("echo ready; kill -STOP $$"));
    shim.cancel(false);
    assert_eq!(shim.finish().exit, TERM);
}

#[test]
fn a_timeout_begins_the_kill_ladder() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        timeout_ms: Some(100),
        ..exec(["sleep", "1000"])
    };
    let report = shim.run(&spec);
    assert_eq!(
        end_of(&report),
        (TERM, EndCause::TimedOut, Some(libc::SIGTERM))
    );
    assert!(report.duration_us >= 100_000);
}

#[test]
fn a_timeout_kills_a_command_that_ignores_sigterm() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let report = with_growing_timeout(|timeout| {
        let spec = LaunchSpec {
            timeout_ms: u64::try_from(timeout.as_millis()).ok(),
            ..with_grace(100, STUBBORN)
        };
        let report = shim.run(&spec);
        let was_ready = report.output.stdout_bytes > 0;
        was_ready.then_some(report)
    });
    assert_eq!(
        end_of(&report),
        (KILL, EndCause::TimedOut, Some(libc::SIGKILL))
    );
}

#[test]
fn a_timeout_that_is_not_reached_changes_nothing() {
    let launcher = Launcher::start();
    let spec = LaunchSpec {
        timeout_ms: Some(u64::MAX),
        ..shell("exit 1")
    };
    let report = launcher.shim().run(&spec);
    assert_eq!(end_of(&report), (Exit::Code(1), EndCause::Itself, None));
}

/// See golang/go#60309.
#[test]
fn a_daemon_that_keeps_the_pipe_open_neither_delays_the_report_nor_survives() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    for redirection in ["", ">/dev/null 2>&1"] {
        let text = format!(
            "setsid -f sh -c 'trap \"\" TERM; echo > \"$0\"; exec sleep 1000' \"$0\" {redirection}
            read -r line < \"$0\"; echo over"
        );
        let report = shim.run(&shell_with(&text, fifo.path()));
        assert_eq!(end_of(&report), (Exit::Code(0), EndCause::Itself, None));
        assert_eq!(report.leftovers, Leftovers::Killed);
        let took = report.ended_at.as_micros() - report.started_at.unwrap().as_micros();
        assert!(took < 20_000_000, "took {took} µs");
        assert!(report.duration_us.cast_signed() + 1_900_000 < took);
    }
    assert_eq!(shim.run(&exec(["true"])).leftovers, Leftovers::None);
}

#[test]
fn a_process_that_ends_by_itself_after_the_main_process_is_no_leftover() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "(read line < \"$0\"; echo late) & exit 2";
    let spec = with_long_drain(shell_with(text, fifo.path()));
    let main = raw::pidfd(shim.start(&spec));
    // The main process may have ended already.
    assert!(main.map_or(true, readable));
    fifo.write_line("go");
    let report = shim.finish();
    assert_eq!(report.exit, Exit::Code(2));
    assert_eq!(report.leftovers, Leftovers::None);
    assert_eq!(Output::of(&launcher, spec.id).text(), "late\n");
}

#[test]
fn a_cancel_after_the_end_of_the_main_process_kills_the_rest_and_is_not_the_cause() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_long_drain(shell("sleep 1000 & exit 0"));
    let main = raw::pidfd(shim.start(&spec));
    assert!(main.map_or(true, readable));
    shim.cancel(false);
    let report = shim.finish();
    assert_eq!(end_of(&report), (Exit::Code(0), EndCause::Itself, None));
    assert_eq!(report.leftovers, Leftovers::Killed);
}

#[test]
fn leftovers_get_sigterm_before_sigkill() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "(trap 'echo bye; exit 0' TERM; echo > \"$0\"; while :; do sleep 0.1; done) &
        read line < \"$0\"";
    with_growing_timeout(|drain| {
        let spec = LaunchSpec {
            drain_ms: u64::try_from(drain.as_millis()).unwrap(),
            ..shell_with(text, fifo.path())
        };
        let report = shim.run(&spec);
        assert_eq!(end_of(&report), (Exit::Code(0), EndCause::Itself, None));
        assert_eq!(report.leftovers, Leftovers::Killed);
        let stdout = Output::of(&launcher, spec.id).stdout();
        (stdout == b"bye\n").then_some(())
    });
}

#[test]
fn without_a_drain_leftovers_are_killed_at_once_and_all_output_is_logged() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        drain_ms: 0,
        ..shell("sleep 1000 & head -c 60000 /dev/zero")
    };
    let report = shim.run(&spec);
    assert_eq!(report.exit, Exit::Code(0));
    assert_eq!(report.leftovers, Leftovers::Killed);
    assert_eq!(Output::of(&launcher, spec.id).log, vec![0; 60_000]);
}

#[test]
fn output_that_is_in_the_pipes_at_a_kill_is_logged() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("head -c 60000 /dev/zero; kill -KILL $$");
    let report = shim.run(&spec);
    assert_eq!(report.exit, KILL);
    assert_eq!(Output::of(&launcher, spec.id).log, vec![0; 60_000]);
}
