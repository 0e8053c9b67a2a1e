//! An execution that is over, until its report is safe.

use std::io;
use std::os::fd::AsFd;

use escher_protocol::{Blob, Exit, Leftovers, Measurements, OutputTotals, Timestamp, Usage};
use nix::unistd::Pid;

use super::link::Link;
use super::stdin::Input;
use super::{Wake, Workshop, await_escherd, wait};
use crate::ipc::exit_record::{self, ExitRecord};
use crate::ipc::wire::{
    Assignment, EndCause, ExitReport, FromShim, InputState, ShimPhase, ShimState, ToShim,
    WIRE_VERSION,
};

/// What is left of an execution.
pub(super) struct Ended {
    pub(super) report: ExitReport,
    /// What the command's cgroup has counted, if it had one.
    pub(super) measured: Option<Measurements>,
    pub(super) memo: Blob,
    pub(super) input: InputState,
}

impl Ended {
    /// That of a command whose process was never made.
    pub(super) fn without_a_start(assignment: Assignment, exit: Exit) -> Self {
        Ended {
            report: ExitReport {
                id: assignment.spec.id,
                exit,
                cause: EndCause::Itself,
                ended_by_signal: None,
                started_at: None,
                ended_at: Timestamp::now(),
                duration_us: 0,
                usage: Usage::default(),
                output: OutputTotals::default(),
                leftovers: Leftovers::None,
            },
            measured: None,
            memo: assignment.memo,
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
            let record = ExitRecord {
                report: self.report.clone(),
                measured: self.measured,
            };
            match exit_record::write(workshop.directories.exits.as_fd(), &record) {
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
        if let Some(measured) = self.measured {
            link.send(&FromShim::Measured(Box::new(measured)));
        }
        link.send(&FromShim::Exited(Box::new(self.report.clone())));
    }

    /// What an escherd hears that comes now, from the shim with this process id.
    fn state(&self, shim: Pid) -> ShimState {
        ShimState {
            version: WIRE_VERSION,
            pid: shim.as_raw().unsigned_abs(),
            id: self.report.id,
            memo: self.memo.clone(),
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
        EndCause::Itself => None,
        EndCause::TimedOut
        | EndCause::Cancelled(_)
        | EndCause::LogFull
        | EndCause::OversizedOutput => Some(cause.clone()),
    }
}
