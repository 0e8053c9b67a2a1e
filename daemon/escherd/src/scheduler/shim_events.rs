//! What shims report: their messages, their deaths, and the exit records that they leave.

use escher_launcher::ipc::wire::{
    ExecutionFiles, ExitReport, FromShim, ShimPhase, ShimState, ToShim,
};
use escher_protocol::message::EventKind;
use escher_protocol::{ExecutionId, Timestamp};

use super::finish::Evidence;
use super::persist::OnCommit;
use super::withdrawal::LaunchPhase;
use super::{Effect, Scheduler};
use crate::execution::{Loss, Transition};
use crate::store::Change;

impl Scheduler {
    /// Handles a message of the shim of `id`.
    pub fn on_shim_message(&mut self, id: ExecutionId, message: FromShim, now: Timestamp) {
        let Some(number) = self.number_of(id) else {
            // Its execution was removed, so the shim may drop its report. But the report of an execution that the
            // store has lost, with its submission, is all that is left: it becomes an exit record.
            if matches!(message, FromShim::Exited(_)) && !self.without_submission.contains(&id) {
                self.effects.push(Effect::Send(id, ToShim::Recorded));
            }
            return;
        };
        match message {
            FromShim::Started { pid, at } => self.on_started(number, pid, at),
            FromShim::InputAccepted => {
                if let Some(entry) = self.entries.get_mut(&number)
                    && let Some((answer, responder)) = entry.execution.stdin.accepted()
                {
                    let _ = responder.send(answer);
                }
                self.send_input(number);
            }
            FromShim::InputClosed => self.close_stdin(number),
            FromShim::LogGrew { log_bytes } => self.on_log_grown(number, log_bytes),
            FromShim::Adoptable(state) => self.on_adopted(number, &state),
            FromShim::LogBudgetWanted { bytes } => self.on_log_budget_wanted(number, bytes),
            FromShim::CurrentUsage(usage) => self.on_usage_measured(number, usage),
            FromShim::Paused(is_paused) => self.on_paused(number, is_paused),
            FromShim::Signalled {
                serial,
                answer,
                sent,
            } => self.on_signalled(number, serial, answer, sent),
            FromShim::Exited(report) => {
                if !self.is_over(number) && self.apply_report(number, report) {
                    self.finish_and_free_slot(number, Evidence::Report, now);
                } else if self.is_end_committed(number) {
                    // The shim repeats its report because the acknowledgement was lost.
                    self.send(number, ToShim::Recorded);
                }
            }
        }
    }

    fn on_started(&mut self, number: u64, pid: u32, at: Timestamp) {
        if self
            .transition(number, Transition::Started { pid, at })
            .is_some()
        {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.search_path = None;
                if let Some(launched_at) = entry.launched_at {
                    self.metrics.observe_launch(launched_at.elapsed());
                }
            }
            self.log_step(number, "started");
            self.note_shim_reported(number);
            self.send_pause(number);
            let event = self.event(number, at, EventKind::Started);
            let events = event.into_iter().collect();
            self.commit(
                Change::Started { number, pid, at },
                events,
                OnCommit::Nothing,
            );
        }
    }

    fn on_log_grown(&mut self, number: u64, log_bytes: u64) {
        if let Some(entry) = self.entries.get(&number)
            && let Some(progress) = &entry.progress
        {
            progress.send_modify(|progress| progress.log_bytes = log_bytes);
        }
    }

    /// Gives the log of an execution as much of its user's share as it needs and there is.
    fn on_log_budget_wanted(&mut self, number: u64, wanted: u64) {
        if let Some(bytes) = self.log_budgets.grow(number, wanted) {
            self.send(number, ToShim::LogBudget { bytes });
        }
    }

    /// Charges the log of a command whose shim has ended, until the commit of its end.
    fn charge_ended_log(&mut self, number: u64, report: &ExitReport) {
        if let Some(entry) = self.entries.get(&number) {
            let output = &report.output;
            let kept_bytes = output.log_bytes.saturating_sub(output.forgotten_bytes);
            let log_bytes = kept_bytes.saturating_add(output.reserved_bytes);
            let uid = entry.submitter().uid;
            self.log_budgets.charge(number, uid, log_bytes);
        }
    }

    /// Handles the state that an adopted shim reports.
    pub(super) fn on_adopted(&mut self, number: u64, state: &ShimState) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        self.metrics.count_adopted();
        entry.launch_phase = LaunchPhase::Reported;
        entry.execution.stdin.adopt(&state.input);
        entry.execution.signals.clone_from(&state.signals);
        let is_starting = entry.execution.state.started_at().is_none();
        if !entry.is_over() {
            let uid = entry.submitter().uid;
            let was_paused = entry.pause.is_paused();
            self.log_budgets.charge(number, uid, state.log_budget);
            if state.is_paused != was_paused {
                self.on_paused(number, state.is_paused);
            }
        }
        self.on_log_grown(number, state.log_bytes);
        if let ShimPhase::Running { pid, at } = state.phase
            && is_starting
        {
            self.on_started(number, pid, at);
        }
        self.send_pending_requests(number);
        self.note_shim_reported(number);
    }

    /// Notes that the shim of an execution is there, and answers the cancels that waited for it.
    fn note_shim_reported(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.launch_phase = LaunchPhase::Reported;
        entry.answer_submitters();
        // Looking for them takes a step for each change that is not committed.
        if entry.execution.state.cancel_request().is_some() {
            self.answer_delayed_cancels(number);
        }
    }

    /// Handles the death of the shim of `id` without a report.
    pub fn on_shim_death(&mut self, id: ExecutionId, loss: Loss, now: Timestamp) {
        if let Some(number) = self.number_of(id) {
            self.finish_lost(number, loss, now);
        }
    }

    /// Handles the report of an exit record.
    pub fn on_exit_record(&mut self, report: Box<ExitReport>, now: Timestamp) {
        let (id, attempt) = (report.id, report.attempt);
        match self.number_of(id) {
            Some(number) if !self.is_over(number) => {
                self.charge_ended_log(number, &report);
                if self.apply_report(number, report) {
                    self.finish_and_free_slot(number, Evidence::ExitRecord, now);
                }
            }
            // Its end is being committed; until then the exit record stays.
            Some(number) if !self.is_end_committed(number) => {
                if let Some(entry) = self.entries.get_mut(&number) {
                    entry.evidence = Evidence::ExitRecord;
                }
            }
            _ => self.delete_files(ExecutionFiles::ExitRecord { attempt }, id),
        }
    }
}
