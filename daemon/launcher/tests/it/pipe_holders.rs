//! Processes that hold a command's pipes beside its shim.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use escher_launcher::ipc::wire::{Assignment, EndCause, LogLimits};
use escher_protocol::{CancelMode, Canceller, Exit};

use crate::commands::{assignment, shell_with};
use crate::{Fifo, Launcher, exec, raw, require_root};

/// Limits under which a flood fills no disk.
const SMALL_LOG: LogLimits = LogLimits {
    max_bytes: 1 << 20,
    min_free_bytes: 0,
    when_full: escher_launcher::ipc::wire::WhenLogFull::Drain,
};

/// The shim read the pipe until it was empty, which such a writer prevented.
#[test]
fn a_writer_outside_the_tree_neither_keeps_a_cancel_from_the_shim_nor_holds_it() {
    if !require_root("a writer that has taken a command's descriptor") {
        return;
    }
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = exec(["sleep", "1000"]);
    shim.assign(&Assignment {
        log_limits: SMALL_LOG,
        ..assignment(spec)
    });
    let command = raw::pidfd(shim.receive_started()).unwrap();
    let stdout = File::from(raw::descriptor_of(command.as_fd(), 1).unwrap());
    let report = std::thread::scope(|scope| {
        for _ in 0..4 {
            // Until the shim closes its end.
            scope.spawn(|| while (&stdout).write_all(&[b'x'; 1 << 16]).is_ok() {});
        }
        shim.log_longer_than(SMALL_LOG.max_bytes / 2);
        shim.cancel(false);
        shim.finish()
    });
    assert_eq!(report.ladder_signal, Some(libc::SIGTERM));
    assert!(report.output.stdout_bytes > SMALL_LOG.max_bytes);
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

/// The shim waited in read(2) for bytes that another reader had taken.
#[test]
fn a_command_that_reads_its_own_output_does_not_keep_a_cancel_from_the_shim() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let fifo = Fifo::create(launcher.path("fifo"));
    let text = "exec 3< /proc/self/fd/1; cat <&3 > /dev/null & echo > \"$0\"
        trap '' TERM; while :; do echo much; done";
    shim.assign(&Assignment {
        log_limits: SMALL_LOG,
        ..assignment(shell_with(text, fifo.path()))
    });
    shim.receive_started();
    assert_eq!(fifo.read_line(), "");
    for mode in [CancelMode::Graceful, CancelMode::Kill] {
        let by = Canceller::Host;
        shim.send(&escher_launcher::ipc::wire::ToShim::Cancel { by, mode });
    }
    let report = shim.finish();
    assert_eq!(report.cause, EndCause::Cancelled(Canceller::Host));
    assert_eq!(report.ladder_signal, Some(libc::SIGKILL));
}
