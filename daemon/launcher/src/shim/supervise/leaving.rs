//! Processes that a command leaves running, if its request allows that ([`LaunchSpec::may_leave`]).
//!
//! The execution has ended with its main process, and its exit report says [`Leftovers::Left`]. After
//! that the shim does for what is left what it did before: it reads the pipes, reaps, and ends
//! everything when it is told to. It is not connected to escherd, which finds it by the name of its
//! socket ([`SocketName::Left`]) when somebody wants to end or signal what is left. It has that name before it
//! reports the end; who connects meanwhile is served once the end is recorded.
//!
//! [`LaunchSpec::may_leave`]: crate::ipc::wire::LaunchSpec::may_leave
//! [`SocketName::Left`]: crate::ipc::shim_socket::SocketName::Left

use std::os::fd::AsFd;
use std::time::Instant;

use escher_protocol::{CancelMode, Canceller, Leftovers};

use super::{MAX_GRACE_AT_STOP, Supervisor};
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
        if self.tree.is_empty() || self.ladder.has_begun() || !self.announce_leftovers() {
            return false;
        }
        self.leaving = Leaving::Reporting;
        self.leftovers = Leftovers::Left;
        true
    }

    /// Makes the shim one that is found by what is left, as far as that is allowed. Returns whether it is.
    fn announce_leftovers(&self) -> bool {
        let (spec, shims) = (&self.assignment.spec, &self.context.directories.shims);
        spec.may_leave.is_some_and(|most| {
            let (id, uid) = (spec.id, spec.submitter_uid);
            let is_allowed = self.link.add_left_name(shims.as_fd(), id, uid, most);
            is_allowed.unwrap_or(false)
        })
    }

    /// Goes on with what is left, once the exit report is delivered.
    pub(super) fn go_on_with_rest(&mut self) {
        self.leaving = Leaving::Left;
        let (spec, shims) = (&self.assignment.spec, &self.context.directories.shims);
        let left = self.link.leave(shims.as_fd(), spec.id, spec.submitter_uid);
        // A claim says that an execution is not over.
        if left.is_err() || self.context.is_stopping.get() {
            self.end(EndCause::Cancelled(Canceller::Host), CancelMode::Graceful);
            self.ladder.limit_grace(MAX_GRACE_AT_STOP, Instant::now());
        }
    }
}
