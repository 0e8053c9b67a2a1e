//! Processes that a command leaves running, if its request allows that ([`LaunchSpec::may_leave`]).
//!
//! The execution has ended with its main process, and its exit report says [`Leftovers::Left`]. After
//! that the shim does for what is left what it did before: it reads the pipes, reaps, and ends
//! everything when it is told to. It is not connected to escherd, which finds it by the name of its
//! socket ([`SocketName::Left`]) when somebody wants to end or signal what is left.
//!
//! [`LaunchSpec::may_leave`]: crate::ipc::wire::LaunchSpec::may_leave
//! [`SocketName::Left`]: crate::ipc::shim_socket::SocketName::Left

use std::os::fd::AsFd;
use std::time::Instant;

use escher_protocol::{Canceller, Leftovers};

use super::{MAX_GRACE_AT_STOP, Supervisor};
use crate::ipc::shim_socket;
use crate::ipc::wire::EndCause;

/// Where an execution is that may leave processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It has left none, or not yet.
    No,
    /// Its main process has ended, and the exit report is due.
    Reporting,
    /// Its end is recorded, and processes are left.
    Left,
}

impl Supervisor<'_> {
    /// Leaves the other processes of a command whose main process has ended by itself, if they may go
    /// on. Returns whether they do.
    pub(super) fn try_to_leave(&mut self) -> bool {
        if self.tree.is_empty() || self.ladder.has_begun() || !self.is_allowed_to_leave() {
            return false;
        }
        self.leaving = Leaving::Reporting;
        self.leftovers = Leftovers::Left;
        true
    }

    fn is_allowed_to_leave(&self) -> bool {
        let spec = &self.assignment.spec;
        let (shims, uid) = (&self.context.directories.shims, spec.submitter_uid);
        spec.may_leave.is_some_and(|most| {
            shim_socket::count_left(shims, uid).is_ok_and(|count| count < most as usize)
        })
    }

    /// Goes on with what is left, once the exit report is delivered.
    pub(super) fn go_on_with_rest(&mut self) {
        self.leaving = Leaving::Left;
        let (spec, shims) = (&self.assignment.spec, &self.context.directories.shims);
        let renamed = self.link.leave(shims.as_fd(), spec.id, spec.submitter_uid);
        // What nobody could find must not be left.
        if renamed.is_err() || self.context.is_stopping.get() {
            self.end(EndCause::Cancelled(Canceller::Host), false);
            self.ladder.limit_grace(MAX_GRACE_AT_STOP, Instant::now());
        }
    }
}
