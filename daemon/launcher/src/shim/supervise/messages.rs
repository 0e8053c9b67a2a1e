//! Messages between the supervisor and escherd.

use std::time::Instant;

use super::Supervisor;
use super::leaving::Leaving;
use crate::ipc::wire::{
    EndCause, FromShim, ShimPhase, ShimState, SignalOrder, ToShim, WIRE_VERSION,
};
use crate::shim::log_budget::LogBudget;
use crate::shim::spawn::SetupResult;
use crate::shim::stdin::WriteProgress;

/// Most messages that are handled before pipes, signals and deadlines have their turn again.
const MAX_MESSAGES_PER_TURN: usize = 16;

impl Supervisor<'_> {
    /// Accepts another escherd, if one waits, and sends it the state of the execution.
    pub(super) fn accept_escherd(&mut self) {
        if !self.link.accept() {
            return;
        }
        self.watched_lengths.clear();
        self.log.change_budget(LogBudget::on_connected);
        let state = self.state();
        self.link.send(&FromShim::Adoptable(Box::new(state)));
    }

    fn state(&self) -> ShimState {
        let phase = match self.setup_result {
            _ if self.leaving == Leaving::Left => ShimPhase::Left,
            Some(SetupResult::Executed) => ShimPhase::Running {
                pid: self.tree.main().as_raw().unsigned_abs(),
                at: self.start.time,
            },
            _ => ShimPhase::Starting,
        };
        ShimState {
            version: WIRE_VERSION,
            pid: self.context.pid.as_raw().unsigned_abs(),
            id: self.assignment.spec.id,
            attempt: self.assignment.spec.attempt,
            submission_backup: self.assignment.submission_backup.clone(),
            phase,
            is_paused: self.freezer.is_reported(),
            log_bytes: self.log.totals().log_bytes,
            log_budget: self.log.budget().bytes(),
            input: self.stdin.state(),
            signals: self.signals.sent().clone(),
        }
    }

    pub(super) fn handle_messages(&mut self) {
        for _ in 0..MAX_MESSAGES_PER_TURN {
            let Some((message, _)) = self.link.receive() else {
                return;
            };
            match message {
                ToShim::Input { data, end } => {
                    let progress = self.stdin.push(data, end);
                    self.answer_input(&progress);
                }
                ToShim::Cancel { by, mode } => self.end(EndCause::Cancelled(by), mode),
                ToShim::Signal(order) => self.answer_signal(order),
                ToShim::Watch { known_bytes } => drop(self.watched_lengths.insert(known_bytes)),
                ToShim::Pause => self.set_paused(true),
                ToShim::Resume => self.set_paused(false),
                ToShim::LogBudget { bytes } => {
                    self.log.change_budget(|budget| budget.set(bytes));
                }
                ToShim::MeasureUsage => {
                    let usage = self.current_usage();
                    self.link.send(&FromShim::CurrentUsage(usage));
                }
                // Not valid during an execution.
                ToShim::Assign(_) | ToShim::AssignFromMemory | ToShim::Recorded => {}
            }
        }
    }

    /// Sends a signal, unless it was sent before.
    fn answer_signal(&mut self, order: SignalOrder) {
        let serial = order.serial;
        let earlier = self.signals.earlier_answer(serial);
        let answer = earlier.unwrap_or_else(|| self.signal(order));
        self.link.send(&FromShim::Signalled {
            serial,
            answer,
            sent: self.signals.sent().clone(),
        });
    }

    /// Thaws the command if it is frozen or is to be. A pause that is not complete fails.
    pub(super) fn resume(&mut self) {
        if self.freezer.is_requested() {
            let is_pause_incomplete = !self.freezer.is_reported();
            self.set_paused(false);
            if is_pause_incomplete {
                self.link.send(&FromShim::Paused(false));
            }
        }
    }

    /// Freezes or thaws the command. A command that is being ended is not frozen: it must be able
    /// to run.
    pub(super) fn set_paused(&mut self, paused: bool) {
        let is_allowed = !paused || !self.ladder.has_begun();
        let is_requested = is_allowed && self.freezer.request(paused, Instant::now());
        if paused && !is_requested {
            // It is not possible, and escherd waits for an answer.
            self.link.send(&FromShim::Paused(false));
        }
        self.report_pause();
    }

    /// Reports whether the command is frozen, if that has changed.
    pub(super) fn report_pause(&mut self) {
        if let Some(is_frozen) = self.freezer.take_change() {
            self.link.send(&FromShim::Paused(is_frozen));
        }
    }

    pub(super) fn answer_input(&mut self, progress: &WriteProgress) {
        for _ in 0..progress.accepted {
            self.link.send(&FromShim::InputAccepted);
        }
        if progress.is_closed {
            self.link.send(&FromShim::InputClosed);
        }
    }

    /// Asks escherd for a larger budget of the log if that is due. Without an escherd the shim decides
    /// itself.
    pub(super) fn request_log_budget(&mut self) {
        if let Some(wanted) = self.log.budget().due_request(self.log.used_bytes()) {
            let now = Instant::now();
            self.log
                .change_budget(|budget| budget.note_request(wanted, now));
            self.link.send(&FromShim::LogBudgetWanted { bytes: wanted });
        }
        if self.log.budget().deadline().is_some() && !self.link.is_connected() {
            self.log.change_budget(LogBudget::do_without_answer);
        }
    }

    /// Whether output has to stay in the pipes until the budget of the log is decided.
    pub(super) fn must_wait_for_log_budget(&self) -> bool {
        self.log.budget().must_wait(self.log.used_bytes())
    }

    /// Reports the length of the log if it exceeds a watched length, which is watched no longer
    /// then.
    pub(super) fn report_growth(&mut self) {
        let log_bytes = self.log.totals().log_bytes;
        let not_exceeded = self.watched_lengths.split_off(&log_bytes);
        let exceeded = std::mem::replace(&mut self.watched_lengths, not_exceeded);
        if !exceeded.is_empty() {
            self.link.send(&FromShim::LogGrew { log_bytes });
        }
    }
}
