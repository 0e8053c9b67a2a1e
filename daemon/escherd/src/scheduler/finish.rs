//! The end of an execution: its commit, its report to clients, and the deletion of its evidence.

use escher_launcher::ipc::wire::{ExecutionFiles, ExitReport, FIRST_ATTEMPT, ToShim};
use escher_protocol::message::{CancelAnswer, Event, EventKind};
use escher_protocol::{ExecutionId, Timestamp};

use super::persist::{CancelResponder, OnCommit};
use super::{Effect, Entry, Scheduler};
use crate::execution::{CancelRequest, Loss, Transition};
use crate::store::{Change, Durability};

/// The evidence of the end of an execution, until that is committed. It is deleted afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// There is none.
    None,
    /// The exit report, which its shim keeps.
    Report,
    /// An exit record.
    ExitRecord,
    /// The claim of a shim that was killed.
    Claim,
}

impl Scheduler {
    /// Finishes an admitted execution as lost.
    pub(super) fn finish_lost(&mut self, number: u64, loss: Loss, now: Timestamp) {
        let has_slot = |entry: &Entry| entry.execution.state.has_slot();
        let evidence = match loss {
            Loss::ShimDied(_) => Evidence::Claim,
            Loss::HostWentDown => Evidence::None,
        };
        if self.entries.get(&number).is_some_and(has_slot)
            && self
                .transition(number, Transition::Lost { at: now, loss })
                .is_some()
        {
            self.finish_and_free_slot(number, evidence, now);
        }
    }

    /// Finishes an admitted execution that has reached no shim: as cancelled if that was requested, else as
    /// `failure` says.
    pub(super) fn finish_unlaunched(&mut self, number: u64, failure: Transition, now: Timestamp) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        let transition = match entry.execution.state.cancel_request().cloned() {
            None => failure,
            Some(CancelRequest { by, .. }) => Transition::Withdraw { by, at: now },
        };
        if self.transition(number, transition).is_some() {
            self.finish_and_free_slot(number, Evidence::None, now);
        }
    }

    /// Finishes an execution by its exit report. Returns whether that was a valid transition.
    pub(super) fn apply_report(&mut self, number: u64, report: Box<ExitReport>) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else {
            return false;
        };
        entry.measured = report.measured;
        entry.execution.signals.clone_from(&report.signals);
        let limits = entry.execution.submission.request.limits;
        let interpreter = report.missing_interpreter.clone();
        self.log_step(number, "exit report received");
        let exited = Transition::Exited { report, limits };
        let is_valid = self.transition(number, exited).is_some();
        if let Some(entry) = self.entries.get_mut(&number) {
            let search_path = entry.search_path.take();
            let (path, interpreter) = (search_path.as_ref(), interpreter.as_ref());
            entry.execution.name_start_attempt(path, interpreter);
        }
        is_valid
    }

    /// Finishes an admitted execution, and admits the next one to its slot.
    pub(super) fn finish_and_free_slot(&mut self, number: u64, evidence: Evidence, now: Timestamp) {
        self.free_slot(number);
        self.finish(number, now, evidence, Vec::new(), None);
        self.admit();
    }

    /// Sends the end of an execution to the store to be committed, after `events`. The commit answers `cancel`, if that is what ended it.
    pub(super) fn finish(
        &mut self,
        number: u64,
        now: Timestamp,
        evidence: Evidence,
        mut events: Vec<Event>,
        cancel: Option<(CancelResponder, CancelAnswer)>,
    ) {
        self.close_stdin(number);
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.evidence = evidence;
        let record = entry.record();
        self.metrics.count_finished(&record);
        events.extend(self.event(number, now, EventKind::Finished(record.status)));
        self.log_step(number, "finished: recording the end");
        let change = Change::Finished {
            record: Box::new(record),
        };
        self.commit(change, events, OnCommit::Finished { number, cancel });
    }

    /// Reports the end of an execution to the clients that wait for it.
    pub(super) fn report_end(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.is_end_reported = true;
        entry.answer_submitters();
        entry.end_pause();
        entry.end_usage();
        entry.end_signals();
        let waiters = std::mem::take(&mut entry.waiters);
        for waiter in waiters {
            let _ = waiter.send(entry.record());
        }
        let status = entry.execution.state.status();
        for responder in std::mem::take(&mut entry.late_cancels) {
            let _ = responder.send(Ok(CancelAnswer::AlreadyFinished(status)));
        }
        let progress = entry.current_progress();
        if let Some(sender) = entry.progress.take() {
            sender.send_replace(progress);
        }
    }

    /// Reports an end before its commit, which may take long. Until the commit the exit report stays with the shim
    /// or in the exit record: that is enough where only a crash has to be survived.
    pub(super) fn report_end_early(&mut self, number: u64) {
        let has_report =
            |entry: &Entry| matches!(entry.evidence, Evidence::Report | Evidence::ExitRecord);
        if self.settings.durability == Durability::Crash
            && self.entries.get(&number).is_some_and(has_report)
        {
            self.report_end(number);
        }
    }

    /// Continues after the commit of an end: reports it, and deletes its evidence.
    pub(super) fn on_end_committed(&mut self, number: u64) {
        self.report_end(number);
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.is_end_committed = true;
        let id = entry.execution.submission.id;
        let attempt = FIRST_ATTEMPT;
        match entry.evidence {
            Evidence::Report => self.send(number, ToShim::Recorded),
            Evidence::None => {}
            Evidence::ExitRecord => self.delete_files(ExecutionFiles::ExitRecord { attempt }, id),
            Evidence::Claim => {
                // A killed shim may have begun to write an exit record.
                self.delete_files(ExecutionFiles::ExitRecord { attempt }, id);
                self.delete_files(ExecutionFiles::Claim { attempt }, id);
            }
        }
    }

    /// Has the launcher delete files of an execution.
    pub(super) fn delete_files(&mut self, files: ExecutionFiles, id: ExecutionId) {
        self.effects.push(Effect::DeleteFiles(files, vec![id]));
    }

    /// Has the launcher delete the logs of these executions.
    pub(super) fn delete_logs(&mut self, ids: Vec<ExecutionId>) {
        if !ids.is_empty() {
            self.effects
                .push(Effect::DeleteFiles(ExecutionFiles::Log, ids));
        }
    }

    pub(super) fn is_over(&self, number: u64) -> bool {
        self.entries.get(&number).is_some_and(Entry::is_over)
    }

    /// Returns whether the end of an execution is committed.
    pub(super) fn is_end_committed(&self, number: u64) -> bool {
        let entry = self.entries.get(&number);
        entry.is_some_and(|entry| entry.is_end_committed)
    }
}
