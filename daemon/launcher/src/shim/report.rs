//! An execution that is over, until its report is safe.

use std::io;
use std::os::fd::AsFd;

use escher_protocol::Blob;
use nix::unistd::Pid;

use super::link::Link;
use super::stdin::Input;
use super::{Wake, Workshop, await_escherd, wait};
use crate::ipc::exit_record;
use crate::ipc::wire::{
    Assignment, EndCause, ExitReport, FromShim, InputState, ShimPhase, ShimState, ToShim,
    WIRE_VERSION,
};

/// What is left of an execution.
pub(super) struct Ended {
    pub(super) report: ExitReport,
    pub(super) submission_backup: Blob,
    pub(super) input: InputState,
}

impl Ended {
    /// That of a command whose process was never made.
    pub(super) fn without_a_start(assignment: Assignment, report: ExitReport) -> Self {
        Ended {
            report,
            submission_backup: assignment.submission_backup,
            input: Input::new(None).state(),
        }
    }

    /// Brings the report to safety: escherd has written it down, or the exit record is on disk. Where that
    /// cannot be written, the shim keeps the report until an escherd comes and takes it.
    ///
    /// # Errors
    /// When nobody has taken the report and the shim is to end. Those of poll(2).
    pub(super) fn hand_over(self, link: &mut Link, workshop: &Workshop) -> io::Result<()> {
        self.tell(link);
        loop {
            match wait(link, workshop)? {
                Wake::Message(ToShim::Recorded, _) => return Ok(()),
                Wake::Message(..) => continue, // For the command, which has ended.
                Wake::Stop | Wake::Alone => {}
            }
            match exit_record::write(workshop.directories.exits.as_fd(), &self.report) {
                Ok(()) => return Ok(()),
                Err(error) if workshop.stopping.get() => return Err(error),
                Err(_) => {}
            }
            // No escherd has come: SIGTERM has, and the loop writes once more.
            if await_escherd(link, workshop)? {
                let state = self.state(workshop.pid);
                link.send(&FromShim::Adoptable(Box::new(state)));
                self.tell(link);
            }
        }
    }

    fn tell(&self, link: &mut Link) {
        link.send(&FromShim::Exited(Box::new(self.report.clone())));
    }

    /// What an escherd hears that comes now, from the shim with this process id.
    fn state(&self, shim: Pid) -> ShimState {
        ShimState {
            version: WIRE_VERSION,
            pid: shim.as_raw().unsigned_abs(),
            id: self.report.id,
            attempt: self.report.attempt,
            submission_backup: self.submission_backup.clone(),
            phase: ShimPhase::Over,
            ending: asked_for(&self.report.cause),
            log_bytes: self.report.output.log_bytes,
            input: self.input,
        }
    }
}

/// The cause of an end that somebody or something has asked for.
pub(super) fn asked_for(cause: &EndCause) -> Option<EndCause> {
    match cause {
        EndCause::Itself | EndCause::UnsupportedPart { .. } => None,
        EndCause::TimedOut
        | EndCause::Cancelled(_)
        | EndCause::LogFull
        | EndCause::OversizedOutput => Some(cause.clone()),
    }
}
