//! What the supervisor waits for: descriptors, signals and deadlines.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use escher_protocol::{CancelMode, Canceller};
use nix::poll::{PollFd, PollFlags, poll};

use super::leaving::Leaving;
use super::{MAX_GRACE_AT_STOP, SETUP_TIMEOUT, Supervisor};
use crate::ipc::wire::{EndCause, FromShim};
use crate::os::deadline::poll_timeout;
use crate::shim::log_budget::LogBudget;
use crate::shim::spawn::{cgroup_limits, cgroup_name};

/// The descriptors that poll(2) has reported.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) link: bool,
    pub(super) signals: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) stdin: bool,
    pub(super) setup: bool,
    pub(super) cgroup: bool,
}

impl Supervisor<'_> {
    /// Waits for an event or the nearest deadline.
    pub(super) fn wait(&self) -> Ready {
        type Flag = fn(&mut Ready) -> &mut bool;
        let signals = Some(self.context.signals.as_fd());
        let setup = Some(self.setup.descriptor()).filter(|_| self.setup_result.is_none());
        let input = PollFlags::POLLIN;
        let reads_output = !self.must_wait_for_log_budget();
        let stdout = self
            .stdout
            .as_ref()
            .filter(|_| reads_output)
            .map(AsFd::as_fd);
        let stderr = self
            .stderr
            .as_ref()
            .filter(|_| reads_output)
            .map(AsFd::as_fd);
        let sources: [(Option<BorrowedFd<'_>>, PollFlags, Flag); 7] = [
            (self.link.next_readable(), input, |r| &mut r.link),
            (signals, input, |r| &mut r.signals),
            (stdout, input, |r| &mut r.stdout),
            (stderr, input, |r| &mut r.stderr),
            (self.stdin.writable_fd(), PollFlags::POLLOUT, |r| {
                &mut r.stdin
            }),
            (setup, input, |r| &mut r.setup),
            (self.freezer.events(), PollFlags::POLLPRI, |r| &mut r.cgroup),
        ];
        let mut flags = Vec::with_capacity(sources.len());
        let mut polled = Vec::with_capacity(sources.len());
        for (descriptor, events, flag) in sources {
            if let Some(descriptor) = descriptor {
                polled.push(PollFd::new(descriptor, events));
                flags.push(flag);
            }
        }
        let mut ready = Ready::default();
        if poll(&mut polled, poll_timeout(self.deadline())).is_ok() {
            for (descriptor, flag) in polled.iter().zip(flags) {
                *flag(&mut ready) = descriptor.any().unwrap_or(true);
            }
        }
        ready
    }

    /// Whether nothing more can happen: all processes have ended, and the pipes are at their end. Once
    /// SIGKILL was sent the shim does not wait for those: what holds them is not part of the command. Or
    /// whether what is left goes on after the end ([`Leaving`]).
    pub(super) fn is_over(&self) -> bool {
        let pipes_ended = self.stdout.is_none() && self.stderr.is_none();
        let are_pipes_done = pipes_ended || self.ladder.is_killing();
        let is_reporting = self.leaving == Leaving::Reporting;
        is_reporting || self.ladder.has_given_up() || (self.tree.is_empty() && are_pipes_done)
    }

    /// Returns the nearest of all deadlines.
    fn deadline(&self) -> Option<Instant> {
        let setup = if self.setup_result.is_none() && !self.setup_timed_out {
            Some(self.start.instant + SETUP_TIMEOUT)
        } else {
            None
        };
        let timeout = self.timeout_at.filter(|_| self.main_ended.is_none());
        let (ladder, link) = (self.ladder.deadline(), self.link.deadline());
        let (freezer, log_budget) = (self.freezer.deadline(), self.log.budget().deadline());
        [setup, timeout, ladder, link, freezer, log_budget]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn handle_deadlines(&mut self) {
        let now = Instant::now();
        if self.main_ended.is_none() && self.timeout_at.is_some_and(|at| now >= at) {
            self.timeout_at = None;
            let step = self
                .ladder
                .begin(EndCause::TimedOut, CancelMode::Graceful, now);
            self.carry_out(step);
        }
        if self.freezer.take_timeout(now) {
            self.set_paused(false);
            self.link.send(&FromShim::Paused(false));
        }
        if self.log.budget().deadline().is_some_and(|at| now >= at) {
            self.log.change_budget(LogBudget::do_without_answer);
        }
        let setup_is_late = now >= self.start.instant + SETUP_TIMEOUT;
        if self.setup_result.is_none() && !self.setup_timed_out && setup_is_late {
            self.setup_timed_out = true;
            let step = self.ladder.begin(EndCause::Itself, CancelMode::Kill, now);
            self.carry_out(step);
        }
        let step = self.ladder.take_due(now);
        self.carry_out(step);
    }

    pub(super) fn handle_signals(&mut self) {
        let signals = self.context.take_signals();
        if signals.child {
            self.tree.reap();
            if self.tree.main_exit().is_some() && self.main_ended.is_none() {
                let now = Instant::now();
                self.main_ended = Some(now);
                self.stdin.close();
                if !self.try_to_leave() {
                    let drain = Duration::from_millis(self.assignment.spec.drain_ms);
                    self.ladder.drain(drain, now);
                }
            }
            if self.ladder.is_killing() {
                // The children of processes that have just died are children of the shim now.
                self.tree.signal_all(&[libc::SIGKILL]);
            }
        }
        // A keeper was killed and another one has started. In between the controllers were
        // disabled, which has removed the limits.
        if signals.hangup
            && self.cgroup.is_some()
            && let Some(cgroups) = &self.context.cgroups
        {
            self.controllers_were_off = true;
            // Fails if a controller is not available any more. The command then runs on without the
            // limit.
            let name = cgroup_name(&self.assignment.spec);
            let _ = cgroups.set_limits(&name, cgroup_limits(self.assignment));
        }
        if signals.term {
            self.end(EndCause::Cancelled(Canceller::Host), CancelMode::Graceful);
            self.ladder.limit_grace(MAX_GRACE_AT_STOP, Instant::now());
        }
    }
}
