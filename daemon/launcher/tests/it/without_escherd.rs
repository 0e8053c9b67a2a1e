//! Shims without escherd, without the launcher, and without both.

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::{EndCause, FIRST_ATTEMPT, LaunchSpec, ToShim};
use escher_protocol::{CancelMode, Canceller, Exit};

use crate::commands::shell_with;
use crate::{Fifo, Launcher, Output, exec, shell};

#[test]
fn losing_escherd_before_the_start_leaves_an_exit_record() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("echo alone; exit 7");
    shim.launch(&spec);
    shim.wait_for_end();
    let record = launcher.exit_record(spec.id);
    assert_eq!((record.id, record.exit), (spec.id, Exit::Code(7)));
    assert_eq!(record.output.stdout_bytes, 6);
    assert_eq!(Output::of(&launcher, spec.id).text(), "alone\n");
    // No draft is left beside it.
    assert_eq!(
        launcher.exit_records(),
        [exit_record::file_name(spec.id, FIRST_ATTEMPT)]
    );
}

#[test]
fn losing_escherd_while_a_command_runs_leaves_an_exit_record() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "echo before; read line < \"$0\"; echo after; echo error >&2; exit 9";
    let spec = shell_with(text, fifo.path());
    shim.start(&spec);
    shim.log_longer_than(0);
    let orphan = shim.disconnect();
    assert!(launcher.exit_records().is_empty());
    fifo.write_line("go");
    orphan.wait_for_end();
    assert_eq!(launcher.exit_record(spec.id).exit, Exit::Code(9));
    let output = Output::of(&launcher, spec.id);
    assert_eq!(output.stdout(), b"before\nafter\n");
    assert_eq!(output.stderr(), b"error\n");
}

#[test]
fn losing_escherd_before_it_recorded_the_report_leaves_an_exit_record() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = exec(["true"]);
    shim.start(&spec);
    let Some(escher_launcher::ipc::wire::FromShim::Exited(report)) = shim.receive() else {
        panic!("not ended");
    };
    shim.wait_for_end();
    assert_eq!(launcher.exit_record(spec.id), *report);
}

#[test]
fn a_recorded_report_leaves_no_exit_record() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    shim.run(&exec(["true"]));
    shim.run(&shell("exit 1"));
    shim.wait_for_end();
    assert!(launcher.exit_records().is_empty());
}

#[test]
fn a_timeout_is_enforced_without_escherd() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        timeout_ms: Some(300),
        ..exec(["sleep", "1000"])
    };
    shim.launch(&spec);
    shim.wait_for_end();
    let record = launcher.exit_record(spec.id);
    assert_eq!(record.cause, EndCause::TimedOut);
    assert_eq!(record.ladder_signal, Some(libc::SIGTERM));
}

#[test]
fn a_command_that_could_not_be_started_leaves_an_exit_record() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = exec(["/nonexistent"]);
    shim.launch(&spec);
    shim.wait_for_end();
    let exit = launcher.exit_record(spec.id).exit;
    assert!(matches!(exit, Exit::NotStarted { .. }), "{exit:?}");
}

#[test]
fn the_launchers_death_harms_no_shim_and_closes_its_socket_at_once() {
    let mut launcher = Launcher::start();
    let (running, idle) = (launcher.shim(), launcher.shim());
    let spec = LaunchSpec {
        stdin: true,
        ..shell("read line; echo $line")
    };
    running.start(&spec);
    launcher.signal(libc::SIGKILL);
    // No shim holds the launcher's end of the control socket.
    assert!(launcher.receive().is_none());
    launcher.wait_for_end();
    let other = shell("echo idle no more");
    assert_eq!(idle.run(&other).exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, other.id).text(), "idle no more\n");
    running.input("unharmed\n", true);
    assert_eq!(running.finish().exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).text(), "unharmed\n");
    assert_eq!(running.run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn a_command_ends_normally_without_launcher_and_escherd() {
    let mut launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let spec = shell_with("read line < \"$0\"; exit 3", fifo.path());
    shim.start(&spec);
    launcher.signal(libc::SIGKILL);
    launcher.wait_for_end();
    let orphan = shim.disconnect();
    fifo.write_line("go");
    orphan.wait_for_end();
    assert_eq!(launcher.exit_record(spec.id).exit, Exit::Code(3));
}

#[test]
fn the_launcher_ends_when_its_control_socket_is_closed_and_shims_live_on() {
    let mut launcher = Launcher::start();
    let shim = launcher.shim();
    launcher.close_control();
    assert!(launcher.wait_for_end().success());
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn sigterm_to_the_launcher_begins_the_kill_ladder_of_every_command() {
    let mut launcher = Launcher::start();
    let (polite, stubborn, idle) = (launcher.shim(), launcher.shim(), launcher.shim());
    let bye = shell("trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done");
    let ignores = LaunchSpec {
        kill_grace_ms: 100,
        ..shell("trap '' TERM; echo ready; exec sleep 1000")
    };
    for (shim, spec) in [(&polite, &bye), (&stubborn, &ignores)] {
        shim.start(spec);
        shim.log_longer_than(0);
    }
    launcher.signal(libc::SIGTERM);
    assert_eq!(idle.receive(), None);
    let host = EndCause::Cancelled(Canceller::Host);
    let report = polite.finish();
    assert_eq!((report.exit, report.cause), (Exit::Code(4), host.clone()));
    let report = stubborn.finish();
    assert_eq!(report.cause, host);
    assert_eq!(report.ladder_signal, Some(libc::SIGKILL));
    // escherd has the reports and keeps the sockets open: the shims end nevertheless.
    assert_eq!((polite.receive(), stubborn.receive()), (None, None));
    assert!(launcher.wait_for_end().success());
}

#[test]
fn sigterm_to_the_launcher_while_a_report_waits_for_escherd_leaves_an_exit_record() {
    let mut launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = exec(["true"]);
    shim.start(&spec);
    assert!(matches!(
        shim.receive(),
        Some(escher_launcher::ipc::wire::FromShim::Exited(_))
    ));
    launcher.signal(libc::SIGTERM);
    assert!(launcher.wait_for_end().success());
    assert_eq!(launcher.exit_record(spec.id).exit, Exit::Code(0));
}

#[test]
fn sigterm_without_an_escherd_ends_commands_and_leaves_exit_records() {
    let mut launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = exec(["sleep", "1000"]);
    shim.start(&spec);
    let orphan = shim.disconnect();
    launcher.signal(libc::SIGTERM);
    orphan.wait_for_end();
    assert!(launcher.wait_for_end().success());
    let cause = launcher.exit_record(spec.id).cause;
    assert_eq!(cause, EndCause::Cancelled(Canceller::Host));
}

#[test]
fn messages_that_escherd_sent_before_it_died_are_handled() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = exec(["sleep", "1000"]);
    shim.start(&spec);
    let by = Canceller::Host;
    shim.send(&ToShim::Cancel {
        by,
        mode: CancelMode::Kill,
    });
    shim.wait_for_end();
    assert_eq!(
        launcher.exit_record(spec.id).ladder_signal,
        Some(libc::SIGKILL)
    );
}
