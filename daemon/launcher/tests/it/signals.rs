//! Signals that a shim sends for clients.

use escher_launcher::ipc::wire::{EndCause, FromShim, LaunchSpec, ToShim};
use escher_protocol::{Exit, Leftovers, SignalAnswer, SignalRecipients};
use escher_testkit::wait::readable;

use crate::commands::shell_with;
use crate::shim::signal_order;
use crate::{Fifo, Launcher, Output, Shim, raw, shell};

const INTERRUPTED: Exit = Exit::Signal {
    signal: libc::SIGINT,
    core_dumped: false,
};

/// Has the signal sent for the second time, with the same serial.
fn answer_to(shim: &Shim, message: &ToShim) -> SignalAnswer {
    shim.send(message);
    match shim.receive() {
        Some(FromShim::Signalled { answer, .. }) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signal_to_the_process_group_reaches_every_process_of_it_and_no_other() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let go = Fifo::create(launcher.path("fifo-go"));
    // The sleep, which is in the group, dies; the child in a session of its own does not get it.
    let text = "trap 'exit 6' USR1
        setsid sh -c 'trap \"echo other\" USR1; echo > \"$0\"; read -r line < \"$0-go\"; echo alone' \"$0\" &
        read -r line < \"$0\"; sh -c 'echo ready; exec sleep 1000'; echo woken";
    let spec = LaunchSpec {
        drain_ms: 600_000,
        ..shell_with(text, fifo.path())
    };
    shim.start(&spec);
    shim.log_longer_than(0);
    let answer = shim.send_signal(libc::SIGUSR1, SignalRecipients::ProcessGroup);
    assert_eq!(answer, SignalAnswer::Sent);
    go.write_line("go");
    let report = shim.finish();
    assert_eq!(
        (report.exit, &report.cause),
        (Exit::Code(6), &EndCause::Itself)
    );
    assert_eq!(report.leftovers, Leftovers::None);
    assert_eq!(Output::of(&launcher, spec.id).stdout(), b"ready\nalone\n");
}

/// A client repeats a signal over another connection, and to another escherd.
#[test]
fn a_repeated_signal_acts_once_also_after_an_adoption() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text = "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done";
    let spec = shell(text);
    shim.start(&spec);
    shim.log_longer_than(0);
    let message = ToShim::Signal(signal_order(libc::SIGINT, SignalRecipients::MainProcess));
    assert_eq!(answer_to(&shim, &message), SignalAnswer::Sent);
    assert_eq!(shim.log_longer_than(6), 13);
    assert_eq!(answer_to(&shim, &message), SignalAnswer::Sent);

    let orphan = shim.disconnect();
    let shim = launcher.adopt(&orphan, spec.id);
    let state = shim.receive_state();
    let sent: Vec<_> = state.signals.iter().collect();
    assert_eq!((sent.len(), sent[0].times, sent[0].by.uid), (1, 1, 7));
    assert_eq!(answer_to(&shim, &message), SignalAnswer::Sent);

    // Another one is handled behind those that do nothing.
    shim.send_signal(libc::SIGKILL, SignalRecipients::MainProcess);
    let report = shim.finish();
    assert_eq!(Output::of(&launcher, spec.id).text(), "ready\ncaught\n");
    let sent = report.signals.iter();
    let sent: Vec<_> = sent.map(|sent| (sent.signal, sent.times)).collect();
    assert_eq!(sent, [(libc::SIGINT, 1), (libc::SIGKILL, 1)]);
}

#[test]
fn a_signal_to_the_process_group_of_a_main_process_that_has_ended_ends_the_rest() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        drain_ms: 600_000,
        ..shell("trap '' TERM INT; sleep 1000 & exit 3")
    };
    let main = raw::pidfd(shim.start(&spec));
    assert!(main.map_or(true, readable));
    let message = ToShim::Signal(signal_order(libc::SIGINT, SignalRecipients::ProcessGroup));
    assert_eq!(answer_to(&shim, &message), SignalAnswer::Cancelled);
    let report = shim.finish();
    assert_eq!(
        (report.exit, report.cause),
        (Exit::Code(3), EndCause::Itself)
    );
    assert_eq!(report.leftovers, Leftovers::Killed);
    assert_eq!(report.signals.iter().count(), 1);
}

#[test]
fn a_program_that_does_not_catch_the_signal_dies_of_it() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    shim.start(&crate::exec(["sleep", "1000"]));
    shim.send_signal(libc::SIGINT, SignalRecipients::ProcessGroup);
    let report = shim.finish();
    assert_eq!((report.exit, report.cause), (INTERRUPTED, EndCause::Itself));
}
