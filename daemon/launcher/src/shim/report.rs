//! Delivering the exit report of an execution that is over.

use std::io;
use std::os::fd::AsFd;

use escher_protocol::Blob;
use nix::unistd::Pid;

use super::link::Link;
use super::stdin::StdinFeeder;
use super::{Event, ShimContext, await_escherd, wait};
use crate::ipc::exit_record;
use crate::ipc::wire::{
    Assignment, ExitReport, FromShim, InputState, ShimPhase, ShimState, ToShim, WIRE_VERSION,
};

/// An execution that is over, with what an adopting escherd needs.
pub(super) struct FinishedExecution<'a> {
    pub(super) report: ExitReport,
    pub(super) submission_backup: &'a Blob,
    pub(super) log_budget: u64,
    pub(super) input: InputState,
}

impl<'a> FinishedExecution<'a> {
    /// Returns the execution of a command whose process was never created.
    pub(super) fn never_started(assignment: &'a Assignment, report: ExitReport) -> Self {
        FinishedExecution {
            report,
            submission_backup: &assignment.submission_backup,
            log_budget: assignment.log_budget,
            input: StdinFeeder::new(None).state(),
        }
    }

    /// Delivers the exit report: returns once escherd has recorded it or the exit record is on
    /// disk. Where the record cannot be written, the shim keeps the report until an escherd takes
    /// it.
    ///
    /// # Errors
    /// Those of writing the exit record if the shim has got SIGTERM, after which it cannot wait for
    /// an escherd. Those of poll(2).
    pub(super) fn deliver(self, link: &mut Link, context: &ShimContext) -> io::Result<()> {
        self.send_report(link);
        loop {
            match wait(link, context)? {
                Event::Message(ToShim::Recorded, _) => return Ok(()),
                Event::Message(..) => continue, // For the command, which has ended.
                Event::Terminate | Event::EscherdDisconnected => {}
            }
            match exit_record::write(context.directories.exits.as_fd(), &self.report) {
                Ok(()) => return Ok(()),
                Err(error) if context.is_stopping.get() => return Err(error),
                Err(_) => {}
            }
            // At SIGTERM no escherd is connected, and the loop tries to write once more.
            if await_escherd(link, context)? {
                let state = self.state(context.pid);
                link.send(&FromShim::Adoptable(Box::new(state)));
                self.send_report(link);
            }
        }
    }

    fn send_report(&self, link: &mut Link) {
        link.send(&FromShim::Exited(Box::new(self.report.clone())));
    }

    /// Returns the state for an escherd that adopts the execution now.
    fn state(&self, shim: Pid) -> ShimState {
        ShimState {
            version: WIRE_VERSION,
            pid: shim.as_raw().unsigned_abs(),
            id: self.report.id,
            attempt: self.report.attempt,
            submission_backup: self.submission_backup.clone(),
            phase: ShimPhase::Over,
            is_paused: false,
            log_bytes: self.report.output.log_bytes,
            log_budget: self.log_budget,
            input: self.input,
            signals: self.report.signals.clone(),
        }
    }
}
