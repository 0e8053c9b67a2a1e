//! Commands that may leave processes running.

use std::fs;

use escher_launcher::ipc::shim_socket::SocketName;
use escher_launcher::ipc::wire::{
    Assignment, EndCause, ExecutionFiles, ExitReport, FromShim, LaunchSpec, ShimPhase, ShimState,
    ToShim,
};
use escher_protocol::{Exit, Leftovers, SignalAnswer, SignalRecipients};

use crate::commands::{assignment, claim, shell_with};
use crate::shim::{Orphan, cancelling_user};
use crate::{Fifo, Launcher, Output, Shim, exec};

fn may_leave(spec: LaunchSpec) -> LaunchSpec {
    LaunchSpec {
        may_leave: Some(100),
        ..spec
    }
}

/// A command that leaves a process, which prints each line that comes from the fifo.
fn leaving(fifo: &Fifo) -> LaunchSpec {
    let text = "(while read -r line <\"$0\"; do echo \"$line\"; done) & echo main; exit 3";
    may_leave(shell_with(text, fifo.path()))
}

/// What is left of a command.
struct Left {
    spec: LaunchSpec,
    shim: Orphan,
    report: ExitReport,
}

impl Left {
    /// Runs a command on `shim` that leaves something.
    fn by(shim: Shim, assignment: &Assignment) -> Self {
        shim.assign(assignment);
        let report = shim.finish();
        assert_eq!(report.leftovers, Leftovers::Left);
        // It serves nobody else.
        assert_eq!(shim.receive(), None);
        Left {
            spec: assignment.spec.clone(),
            shim: shim.disconnect(),
            report,
        }
    }

    fn socket(&self) -> SocketName {
        let (id, uid) = (self.spec.id, self.spec.submitter_uid);
        SocketName::Left { id, uid }
    }

    fn connect(&self, launcher: &Launcher) -> (Shim, ShimState) {
        let socket = launcher.connect(&self.socket()).unwrap();
        let shim = self.shim.reconnected(socket);
        let state = shim.receive_state();
        assert_eq!(state.phase, ShimPhase::Left);
        (shim, state)
    }

    fn wait_for_end(self, launcher: &Launcher) {
        self.shim.wait_for_end();
        assert_eq!(launcher.sockets(), []);
    }
}

#[test]
fn what_is_left_goes_on_after_the_end_and_its_output_is_logged() {
    let launcher = Launcher::start();
    let fifo = Fifo::create(launcher.path("fifo"));
    let assignment = Assignment {
        log_budget: 1 << 20,
        ..assignment(leaving(&fifo))
    };
    let left = Left::by(launcher.shim(), &assignment);
    assert_eq!(left.report.exit, Exit::Code(3));
    assert_eq!(left.report.output.log_bytes, 5);
    let output = Output::of(&launcher, left.spec.id);
    let used = 5 + output.index_bytes;
    assert_eq!(left.report.output.reserved_bytes, (1 << 20) - used);
    assert_eq!(launcher.sockets(), [left.socket()]);

    fs::write(fifo.path(), "later\n").unwrap();
    let (shim, _) = left.connect(&launcher);
    assert_eq!(shim.log_longer_than(5), 11);
    assert_eq!(Output::of(&launcher, left.spec.id).text(), "main\nlater\n");
    let answer = shim.send_signal(libc::SIGKILL, SignalRecipients::Tree);
    assert_eq!(answer, SignalAnswer::Sent);
    assert_eq!(shim.receive(), None);
    left.wait_for_end(&launcher);
}

#[test]
fn what_is_left_is_ended_by_a_cancel_and_by_the_stop_of_the_service() {
    let launcher = Launcher::start();
    for is_stopped in [false, true] {
        let fifo = Fifo::create(launcher.path(&format!("fifo {is_stopped}")));
        let left = Left::by(launcher.shim(), &assignment(leaving(&fifo)));
        if is_stopped {
            left.shim.signal(libc::SIGTERM);
        } else {
            let (shim, _) = left.connect(&launcher);
            shim.cancel(false);
            assert_eq!(shim.receive(), None);
        }
        left.wait_for_end(&launcher);
    }
}

#[test]
fn a_command_that_leaves_nothing_or_is_cancelled_ends_as_others_do() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let report = shim.run(&may_leave(exec(["true"])));
    assert_eq!(report.leftovers, Leftovers::None);

    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "sleep 1000 & echo ready; exec sleep 1000";
    let spec = may_leave(shell_with(text, fifo.path()));
    shim.start(&spec);
    shim.log_longer_than(0);
    shim.cancel(false);
    let report = shim.finish();
    assert_eq!(report.cause, EndCause::Cancelled(cancelling_user()));
    assert_ne!(report.leftovers, Leftovers::Left);
    // It is ready for the next command.
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn the_executions_of_one_user_that_have_left_processes_are_limited() {
    let launcher = Launcher::start();
    let fifo = Fifo::create(launcher.path("fifo"));
    let limited = || LaunchSpec {
        may_leave: Some(2),
        drain_ms: 0,
        ..leaving(&fifo)
    };
    let left = [(); 2].map(|()| Left::by(launcher.shim(), &assignment(limited())));
    let third = launcher.shim();
    assert_eq!(third.run(&limited()).leftovers, Leftovers::Killed);
    // Those of another user are not counted.
    let other = LaunchSpec {
        submitter_uid: 1,
        ..limited()
    };
    let other = Left::by(launcher.shim(), &assignment(other));
    for left in left.into_iter().chain([other]) {
        left.shim.signal(libc::SIGTERM);
        left.shim.wait_for_end();
    }
}

/// `kill --tree` found nothing right after the end, `rm` left it running, and a user left more than its limit.
#[test]
fn what_is_left_is_found_and_counted_before_the_end_is_recorded() {
    let launcher = Launcher::start();
    let fifo = Fifo::create(launcher.path("fifo"));
    let limited = || LaunchSpec {
        may_leave: Some(1),
        drain_ms: 0,
        ..leaving(&fifo)
    };
    let shim = launcher.shim();
    let spec = limited();
    shim.start(&spec);
    let Some(FromShim::Exited(report)) = shim.receive() else {
        panic!("no exit report");
    };
    assert_eq!(report.leftovers, Leftovers::Left);
    let (id, uid) = (spec.id, spec.submitter_uid);
    let socket = launcher.connect(&SocketName::Left { id, uid }).unwrap();
    let next = launcher.shim().run(&limited());
    assert_eq!(next.leftovers, Leftovers::Killed);

    shim.send(&ToShim::Recorded);
    assert_eq!(shim.receive(), None);
    let orphan = shim.disconnect();
    let shim = orphan.reconnected(socket);
    shim.cancel(false);
    assert_eq!(shim.receive_state().phase, ShimPhase::Left);
    assert_eq!(shim.receive(), None);
    orphan.wait_for_end();
}

#[test]
fn without_escherd_the_exit_record_is_written_before_the_claim_goes() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "(read -r line <\"$0\") & read -r line <\"$0.main\"";
    let main = Fifo::create(launcher.path("fifo.main"));
    let spec = may_leave(shell_with(text, fifo.path()));
    shim.start(&spec);
    // The next escherd waits.
    let socket = launcher.connect(&claim(spec.id)).unwrap();
    fs::write(main.path(), "end\n").unwrap();
    assert!(matches!(shim.receive(), Some(FromShim::Exited(_))));
    let orphan = shim.disconnect();
    let next = orphan.reconnected(socket);
    assert_eq!(next.receive_state().phase, ShimPhase::Left);
    let left = Left {
        report: launcher.exit_record(spec.id),
        shim: orphan,
        spec,
    };
    assert_eq!(left.report.leftovers, Leftovers::Left);
    assert_eq!(launcher.sockets(), [left.socket()]);
    fs::write(fifo.path(), "end\n").unwrap();
    left.wait_for_end(&launcher);
}

#[test]
fn a_log_that_was_removed_is_neither_written_nor_made_again() {
    let launcher = Launcher::start();
    let fifo = Fifo::create(launcher.path("fifo"));
    let left = Left::by(launcher.shim(), &assignment(leaving(&fifo)));
    let id = left.spec.id;
    assert_eq!(launcher.remove(ExecutionFiles::Log, &[id]), [id]);
    let (shim, _) = left.connect(&launcher);
    fs::write(fifo.path(), "later\n").unwrap();
    let answer = shim.send_signal(libc::SIGTERM, SignalRecipients::Tree);
    assert_eq!(answer, SignalAnswer::Sent);
    assert_eq!(shim.receive(), None);
    left.wait_for_end(&launcher);
    assert!(!launcher.log(id).exists() && !launcher.index(id).exists());
}
