//! Another escherd takes over what an earlier one has started.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use escher_launcher::ipc::shim_socket;
use escher_launcher::ipc::wire::{
    Assignment, EndCause, FIRST_ATTEMPT, FromShim, INPUT_WINDOW, InputState, LaunchSpec,
    MAX_INPUT_BYTES, MAX_SUBMISSION_BACKUP_BYTES, ShimPhase, ShimState, ToShim, WIRE_VERSION,
};
use escher_protocol::{Blob, Exit, SentSignals, SignalRecipients};
use nix::fcntl::SealFlag;

use crate::commands::{assignment, claim, shell_with, with_input};
use crate::hostile_users::as_other_user;
use crate::shim::cancelling_user;
use crate::small_disk::with_a_small_disk;
use crate::{Fifo, Launcher, Output, Shim, exec, require_root, shell};
use escher_testkit::fill_disk;

/// Starts a command, waits for its first output, disconnects, and adopts its shim.
fn start_and_adopt(launcher: &Launcher, shim: Shim, spec: &LaunchSpec) -> (Shim, ShimState) {
    shim.start(spec);
    shim.log_longer_than(0);
    let orphan = shim.disconnect();
    let adopted = launcher.adopt(&orphan, spec.id);
    let state = adopted.receive_state();
    (adopted, state)
}

#[test]
fn a_command_runs_on_under_another_escherd() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("while read -r line; do echo \"$line\"; done; echo end >&2; exit 5");
    let assignment = Assignment {
        submission_backup: Blob::from(vec![b'm'; MAX_SUBMISSION_BACKUP_BYTES]),
        log_budget: 1 << 20,
        ..assignment(spec.clone())
    };
    shim.assign(&assignment);
    let Some(FromShim::Started { pid, at }) = shim.receive() else {
        panic!("not started");
    };
    shim.input("one\n", false);
    assert_eq!(shim.receive(), Some(FromShim::InputAccepted));
    shim.log_longer_than(3);
    let pid_of_shim = shim.pid();
    let orphan = shim.disconnect();

    let shim = launcher.adopt(&orphan, spec.id);
    let expected = ShimState {
        version: WIRE_VERSION,
        pid: pid_of_shim,
        id: spec.id,
        attempt: FIRST_ATTEMPT,
        submission_backup: assignment.submission_backup,
        phase: ShimPhase::Running { pid, at },
        is_paused: false,
        log_bytes: 4,
        log_budget: 1 << 20,
        input: InputState {
            received_bytes: 4,
            ..InputState::default()
        },
        signals: SentSignals::default(),
    };
    assert_eq!(shim.receive_state(), expected);
    shim.input("two\n", false);
    assert_eq!(shim.receive(), Some(FromShim::InputAccepted));
    assert_eq!(shim.log_longer_than(4), 8);
    shim.input("", true);
    let report = shim.finish();
    assert_eq!((report.id, report.exit), (spec.id, Exit::Code(5)));
    assert_eq!(report.started_at, Some(at));
    let output = Output::of(&launcher, spec.id);
    assert_eq!(output.stdout(), b"one\ntwo\n");
    assert_eq!(output.stderr(), b"end\n");
    // The shim is ready for the next command.
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
    assert!(launcher.exit_records().is_empty());
}

#[test]
fn output_while_no_escherd_is_connected_is_logged() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "echo before; read -r line < \"$0\"; echo while; read -r line < \"$0\"; echo after";
    let spec = shell_with(text, fifo.path());
    shim.start(&spec);
    shim.log_longer_than(0);
    let orphan = shim.disconnect();
    fifo.write_line("go");
    let shim = launcher.adopt(&orphan, spec.id);
    assert!(shim.receive_state().log_bytes >= 7);
    assert_eq!(shim.log_longer_than(7), 13);
    fifo.write_line("go");
    assert_eq!(shim.finish().exit, Exit::Code(0));
    assert_eq!(
        Output::of(&launcher, spec.id).text(),
        "before\nwhile\nafter\n"
    );
}

#[test]
fn the_state_counts_input_that_the_command_has_not_read() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let spec = LaunchSpec {
        stdin: true,
        ..shell_with("echo ready; read -r line < \"$0\"; wc -c", fifo.path())
    };
    shim.start(&spec);
    shim.log_longer_than(0);
    // The first message fills the pipe.
    for piece in 0..INPUT_WINDOW {
        let end = piece + 1 == INPUT_WINDOW;
        shim.input(vec![b'x'; MAX_INPUT_BYTES], end);
    }
    let orphan = shim.disconnect();
    let shim = launcher.adopt(&orphan, spec.id);
    let input = InputState {
        received_bytes: (INPUT_WINDOW * MAX_INPUT_BYTES) as u64,
        unaccepted: 3,
        has_ended: true,
        is_closed: false,
    };
    assert_eq!(shim.receive_state().input, input);
    fifo.write_line("go");
    for _ in 0..3 {
        assert_eq!(shim.receive(), Some(FromShim::InputAccepted));
    }
    assert_eq!(shim.finish().exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).text(), "ready\n262144\n");
}

#[test]
fn the_state_says_that_the_input_is_closed() {
    let launcher = Launcher::start();
    let closed = InputState {
        is_closed: true,
        ..InputState::default()
    };
    let never = shell("echo ready; exec sleep 1000");
    let (shim, state) = start_and_adopt(&launcher, launcher.shim(), &never);
    assert_eq!(state.input, closed);
    shim.cancel(true);
    shim.finish();

    let no_more = with_input("exec <&-; echo ready; exec sleep 1000");
    let shim = launcher.shim();
    shim.start(&no_more);
    shim.log_longer_than(0);
    shim.input("lost", false);
    assert_eq!(shim.receive(), Some(FromShim::InputClosed));
    let orphan = shim.disconnect();
    let shim = launcher.adopt(&orphan, no_more.id);
    let received_bytes = 4;
    assert_eq!(
        shim.receive_state().input,
        InputState {
            received_bytes,
            ..closed
        }
    );
    shim.cancel(true);
    shim.finish();
}

#[test]
fn signal_and_cancel_reach_an_adopted_command() {
    let launcher = Launcher::start();
    let text = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.1; done";
    let spec = shell(text);
    let (shim, _) = start_and_adopt(&launcher, launcher.shim(), &spec);
    let signal = libc::SIGUSR1;
    shim.send_signal(signal, SignalRecipients::MainProcess);
    assert_eq!(shim.log_longer_than(6), 13);
    shim.cancel(false);
    let report = shim.finish();
    assert_eq!(report.cause, EndCause::Cancelled(cancelling_user()));
    assert_eq!(report.ladder_signal, Some(libc::SIGTERM));
}

#[test]
fn the_cause_of_a_cancelled_command_is_kept_across_an_adoption() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let text = "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done";
    let spec = shell(text);
    shim.start(&spec);
    shim.log_longer_than(0);
    shim.cancel(false);
    let orphan = shim.disconnect();
    let shim = launcher.adopt(&orphan, spec.id);
    shim.receive_state();
    shim.log_longer_than(6);
    shim.cancel(true);
    assert_eq!(shim.finish().cause, EndCause::Cancelled(cancelling_user()));
}

#[test]
fn a_timeout_is_enforced_across_an_adoption() {
    let launcher = Launcher::start();
    let spec = LaunchSpec {
        timeout_ms: Some(2_000),
        ..shell("trap 'echo time' TERM; echo ready; while :; do sleep 0.1; done")
    };
    let (shim, _) = start_and_adopt(&launcher, launcher.shim(), &spec);
    shim.log_longer_than(6);
    shim.cancel(true);
    let report = shim.finish();
    assert_eq!(report.cause, EndCause::TimedOut);
}

#[test]
fn a_command_that_is_being_set_up_can_be_adopted() {
    let launcher = Launcher::start();
    // Searching the program in that many directories takes a while. If it is found before the
    // adoption, the test tries again.
    let mut path = "PATH=".to_owned();
    path += &":".repeat(100_000);
    path += "/bin:/usr/bin";
    for _ in 0..100 {
        let shim = launcher.shim();
        let spec = LaunchSpec {
            environment: vec![path.as_str().into()],
            ..exec(["sleep", "1000"])
        };
        shim.launch(&spec);
        // The claim shows that the shim has received the launch.
        let orphan = shim.disconnect();
        let socket = loop {
            match launcher.connect(&claim(spec.id)) {
                Ok(socket) => break socket,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
            }
            std::thread::yield_now();
        };
        let shim = orphan.reconnected(socket);
        let phase = shim.receive_state().phase;
        if phase == ShimPhase::Starting {
            shim.receive_started();
        }
        shim.cancel(true);
        assert_eq!(shim.finish().ladder_signal, Some(libc::SIGKILL));
        if phase == ShimPhase::Starting {
            return;
        }
    }
    panic!("the set-up was over before every adoption");
}

#[test]
fn a_launch_that_escherd_sent_before_it_died_is_carried_out_and_can_be_adopted() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let spec = LaunchSpec {
        stdin: true,
        ..shell_with("read -r line; echo \"$line\" > \"$0\"; cat", fifo.path())
    };
    shim.launch(&spec);
    shim.input("queued\n", false);
    let orphan = shim.disconnect();
    assert_eq!(fifo.read_line(), "queued");
    let shim = launcher.adopt(&orphan, spec.id);
    let state = shim.receive_state();
    assert!(matches!(state.phase, ShimPhase::Running { .. }));
    assert_eq!(state.input.received_bytes, 7);
    shim.input("more", true);
    assert_eq!(shim.finish().exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).text(), "more");
}

/// ECONNRESET, which is reported before the last messages of a peer that has not read everything,
/// made the shim drop these messages.
#[test]
fn the_last_messages_of_an_escherd_that_died_with_unread_messages_are_handled() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("cat");
    shim.launch(&spec);
    // `Started` stays unread in the socket.
    shim.wait_for_message();
    shim.signal(libc::SIGSTOP);
    for _ in 0..INPUT_WINDOW {
        shim.input("123456789\n", false);
    }
    let orphan = shim.disconnect();
    orphan.signal(libc::SIGCONT);
    let shim = launcher.adopt(&orphan, spec.id);
    assert_eq!(shim.receive_state().input.received_bytes, 40);
    shim.input("", true);
    assert_eq!(shim.finish().exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).log.len(), 40);
}

#[test]
fn a_second_escherd_waits_until_the_first_has_disconnected() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("echo ready; read -r line; exit 6");
    shim.start(&spec);
    shim.log_longer_than(0);
    // Two connections wait in the backlog.
    let (second, third) = (
        launcher.connect(&claim(spec.id)).unwrap(),
        launcher.connect(&claim(spec.id)).unwrap(),
    );
    // The first escherd still has the command.
    assert_eq!(shim.log_longer_than(0), 6);
    let orphan = shim.disconnect();
    let second = orphan.reconnected(second);
    second.receive_state();
    // Its watch must not be reported to the third.
    second.send(&ToShim::Watch { known_bytes: 6 });
    assert_eq!(second.log_longer_than(0), 6);
    drop(second);
    let third = orphan.reconnected(third);
    third.receive_state();
    third.input("go\n", true);
    assert_eq!(third.receive(), Some(FromShim::InputAccepted));
    assert_eq!(third.finish().exit, Exit::Code(6));
}

#[test]
fn a_watch_of_an_earlier_escherd_is_not_reported_to_the_next() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("echo ready; read -r line; echo more");
    shim.start(&spec);
    shim.log_longer_than(0);
    shim.send(&ToShim::Watch { known_bytes: 6 });
    let orphan = shim.disconnect();
    let shim = launcher.adopt(&orphan, spec.id);
    shim.receive_state();
    shim.input("go\n", true);
    assert_eq!(shim.receive(), Some(FromShim::InputAccepted));
    assert!(matches!(shim.receive(), Some(FromShim::Exited(_))));
    shim.send(&ToShim::Recorded);
}

#[test]
fn only_root_and_the_shims_own_user_can_adopt() {
    if !require_root("an adopter that is somebody else") {
        return;
    }
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("echo ready; read -r line; exit 8");
    shim.start(&spec);
    shim.log_longer_than(0);
    let orphan = shim.disconnect();
    // Even if the directory were open to everybody.
    let name = claim(spec.id);
    let socket = launcher.shim_dir().join(name.to_string());
    for path in [
        launcher.path(""),
        launcher.path("run"),
        launcher.shim_dir(),
        socket,
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let folder = launcher.shim_dir();
    let connect = || shim_socket::connect(fs::File::open(folder).unwrap(), &name);
    let stranger = orphan.reconnected(as_other_user(connect).unwrap());
    assert_eq!(stranger.receive(), None);
    let shim = launcher.adopt(&orphan, spec.id);
    shim.receive_state();
    shim.input("go\n", true);
    assert_eq!(shim.finish().exit, Exit::Code(8));
}

#[test]
fn a_submission_backup_that_does_not_fit_into_a_packet_is_refused() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let assignment = Assignment {
        submission_backup: Blob::from(vec![0; MAX_SUBMISSION_BACKUP_BYTES + 1]),
        ..assignment(shell("echo started"))
    };
    shim.send_with_memory(&ToShim::AssignFromMemory, &assignment, SealFlag::all());
    assert_eq!(shim.receive(), None);
    assert!(crate::launcher::names(&launcher.log_dir()).is_empty());
}

/// Runs a command to its end; no escherd records its exit report, and no exit record can be
/// written. Returns the file that fills the disk as well.
fn ended_on_a_full_disk() -> (
    Launcher,
    LaunchSpec,
    crate::shim::Orphan,
    std::path::PathBuf,
) {
    let (launcher, exits) = with_a_small_disk("--state-dir", 64);
    let filler = fill_disk(&exits, 0);
    let shim = launcher.shim();
    let spec = shell("exit 9");
    shim.start(&spec);
    assert!(matches!(shim.receive(), Some(FromShim::Exited(_))));
    (launcher, spec, shim.disconnect(), filler)
}

#[test]
fn an_exit_report_that_cannot_be_written_is_kept_for_the_next_escherd() {
    if !require_root("a full state directory") {
        return;
    }
    let (launcher, spec, orphan, _) = ended_on_a_full_disk();
    // An escherd that connects and disconnects does not take the report away.
    for _ in 0..2 {
        let shim = launcher.adopt(&orphan, spec.id);
        let state = shim.receive_state();
        assert_eq!((state.phase, state.id), (ShimPhase::Over, spec.id));
        let Some(FromShim::Exited(report)) = shim.receive() else {
            panic!("no report");
        };
        assert_eq!((report.id, report.exit), (spec.id, Exit::Code(9)));
    }
    let shim = launcher.adopt(&orphan, spec.id);
    shim.receive_state();
    shim.finish();
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn an_exit_report_that_could_not_be_written_is_written_at_sigterm_once_there_is_space() {
    if !require_root("a full state directory that has room again") {
        return;
    }
    let (launcher, spec, orphan, filler) = ended_on_a_full_disk();
    // The shim accepts only after its first attempt to write the record.
    launcher.adopt(&orphan, spec.id).receive_state();
    let exits = filler.parent().unwrap();
    fs::remove_file(&filler).unwrap();
    orphan.signal(libc::SIGTERM);
    orphan.wait_for_end();
    assert_eq!(
        crate::launcher::names(exits),
        [escher_launcher::ipc::exit_record::file_name(
            spec.id,
            FIRST_ATTEMPT
        )]
    );
    assert!(launcher.sockets().is_empty());
}

#[test]
fn a_lost_exit_report_leaves_the_claim_and_no_draft() {
    if !require_root("a full state directory at the end") {
        return;
    }
    let (launcher, spec, orphan, filler) = ended_on_a_full_disk();
    launcher.adopt(&orphan, spec.id).receive_state();
    orphan.signal(libc::SIGTERM);
    orphan.wait_for_end();
    assert_eq!(crate::launcher::names(filler.parent().unwrap()), ["filler"]);
    assert_eq!(launcher.sockets(), [claim(spec.id)]);
}
