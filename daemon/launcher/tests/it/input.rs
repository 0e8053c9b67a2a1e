//! Standard input.

use escher_launcher::ipc::wire::{FromShim, INPUT_WINDOW, MAX_INPUT_BYTES};
use escher_protocol::Exit;

use crate::commands::with_input;
use crate::{Launcher, Output, shell};

#[test]
fn standard_input_is_the_null_device_unless_it_is_requested() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = shell("readlink /proc/self/fd/0; cat");
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    assert_eq!(Output::of(&launcher, spec.id).text(), "/dev/null\n");
}

#[test]
fn input_is_passed_on_in_order_and_closed_at_its_end() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("cat; echo end");
    shim.start(&spec);
    let (mut sent, mut ahead) = (Vec::new(), 0);
    let accepted = || assert_eq!(shim.receive(), Some(FromShim::InputAccepted));
    for round in 0..200 {
        if ahead == INPUT_WINDOW {
            accepted();
            ahead -= 1;
        }
        let piece: Vec<u8> = (0..MAX_INPUT_BYTES)
            .map(|place| (place * round % 251).to_le_bytes()[0])
            .collect();
        sent.extend_from_slice(&piece);
        shim.input(piece, false);
        ahead += 1;
    }
    shim.input("tail", true);
    sent.extend_from_slice(b"tailend\n");
    for _ in 0..=ahead {
        accepted();
    }
    assert_eq!(shim.finish().exit, Exit::Code(0));
    assert!(Output::of(&launcher, spec.id).stdout() == sent);
}

#[test]
fn an_empty_last_message_closes_the_input() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("cat; echo end");
    shim.start(&spec);
    shim.input("", true);
    shim.finish();
    assert_eq!(Output::of(&launcher, spec.id).text(), "end\n");
}

#[test]
fn a_closed_input_is_reported_and_the_command_runs_on() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("exec <&-; echo closed; exec sleep 1000");
    shim.start(&spec);
    shim.log_longer_than(0);
    shim.input("nobody reads this", false);
    assert_eq!(shim.receive(), Some(FromShim::InputClosed));
    shim.input("nor this", true);
    assert_eq!(shim.receive(), Some(FromShim::InputClosed));
    shim.cancel(true);
    shim.finish();
}

#[test]
fn a_command_that_does_not_read_blocks_no_other_message() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("echo ready; exec sleep 1000");
    shim.start(&spec);
    shim.log_longer_than(0);
    // The first message fills the pipe; the shim keeps the others.
    for _ in 0..INPUT_WINDOW {
        shim.input(vec![b'x'; MAX_INPUT_BYTES], false);
    }
    assert_eq!(shim.receive(), Some(FromShim::InputAccepted));
    assert_eq!(shim.log_longer_than(0), 6);
    shim.cancel(false);
    let report = shim.finish();
    assert_eq!(report.ladder_signal, Some(libc::SIGTERM));
}

#[test]
fn input_that_was_not_read_is_discarded_with_its_command() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = with_input("read line; exit 9");
    shim.start(&spec);
    for _ in 0..INPUT_WINDOW {
        shim.input(vec![b'\n'; MAX_INPUT_BYTES], false);
    }
    assert_eq!(shim.finish().exit, Exit::Code(9));
    // Nothing is left of it for the next command.
    let next = with_input("cat");
    shim.start(&next);
    shim.input("mine", true);
    shim.finish();
    assert_eq!(Output::of(&launcher, next.id).text(), "mine");
}
