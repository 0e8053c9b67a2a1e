//! Messages from shims, and what follows from them.

use escher_launcher::ipc::wire::{Artifact, ExitReport, FromShim, ShimPhase, ShimState, ToShim};
use escher_protocol::message::{CancelOutcome, Event, EventKind};
use escher_protocol::{ExecutionId, Timestamp};

use super::persist::{CancelReply, Evidence, OnCommit};
use super::{Effect, Entry, Scheduler};
use crate::execution::{Loss, Transition};
use crate::store::Change;

impl Scheduler {
    /// Handles a message of the shim of `id`.
    pub fn on_shim_message(&mut self, id: ExecutionId, message: FromShim, now: Timestamp) {
        let Some(number) = self.number_of(id) else {
            if matches!(message, FromShim::Exited(_)) {
                // The execution was removed: the shim may drop its report.
                self.effects.push(Effect::Send(id, ToShim::Recorded));
            }
            return;
        };
        match message {
            FromShim::Started { pid, at } => self.on_started(number, pid, at),
            FromShim::InputAccepted => {
                if let Some(entry) = self.entries.get_mut(&number)
                    && let Some((reply, sender)) = entry.execution.stdin.accepted()
                {
                    let _ = sender.send(reply);
                }
                self.send_input(number);
            }
            FromShim::InputClosed => self.close_stdin(number),
            FromShim::LogGrew { log_bytes } => self.on_log_grown(number, log_bytes),
            FromShim::Adoptable(state) => self.on_adopted(number, &state),
            FromShim::Paused(is_paused) => self.on_paused(number, is_paused),
            FromShim::Exited(report) => {
                if !self.is_over(number) && self.apply_report(number, report) {
                    self.finish_launched(number, Evidence::Report, now);
                } else if self.is_end_committed(number) {
                    // The shim repeats its report because the acknowledgement was lost.
                    self.send(number, ToShim::Recorded);
                }
            }
        }
    }

    /// Finishes an execution by its exit report. Returns whether that was a valid transition.
    fn apply_report(&mut self, number: u64, report: Box<ExitReport>) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else {
            return false;
        };
        entry.measured = report.measured;
        let limits = entry.execution.submission.request.limits;
        self.trace(number, "exit report received");
        self.transition(number, Transition::Exited { report, limits })
            .is_some()
    }

    fn on_started(&mut self, number: u64, pid: u32, at: Timestamp) {
        if self
            .transition(number, Transition::Started { pid, at })
            .is_some()
        {
            if let Some(entry) = self.entries.get(&number)
                && let Some(launched_at) = entry.launched_at
            {
                self.metrics.observe_launch(launched_at.elapsed());
            }
            self.trace(number, "started");
            self.send_pause(number);
            let event = self.event(number, at, EventKind::Started);
            let events = event.into_iter().collect();
            self.record(
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

    /// Handles the state that an adopted shim reports.
    pub(super) fn on_adopted(&mut self, number: u64, state: &ShimState) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        self.metrics.count_adopted();
        entry.has_shim = true;
        entry.execution.stdin.adopt(&state.input);
        let is_starting = entry.execution.state.started_at().is_none();
        self.on_log_grown(number, state.log_bytes);
        if let ShimPhase::Running { pid, at } = state.phase
            && is_starting
        {
            self.on_started(number, pid, at);
        }
        self.send_pending_requests(number);
    }

    /// Handles the death of the shim of `id` without a report.
    pub fn on_shim_death(&mut self, id: ExecutionId, loss: Loss, now: Timestamp) {
        if let Some(number) = self.number_of(id) {
            self.finish_lost(number, loss, now);
        }
    }

    /// Finishes a launched execution as lost.
    pub(super) fn finish_lost(&mut self, number: u64, loss: Loss, now: Timestamp) {
        let is_launched = |entry: &Entry| entry.execution.state.is_launched();
        let evidence = match loss {
            Loss::ShimDied(_) => Evidence::Claim,
            Loss::HostWentDown => Evidence::None,
        };
        if self.entries.get(&number).is_some_and(is_launched)
            && self
                .transition(number, Transition::Lost { at: now, loss })
                .is_some()
        {
            self.finish_launched(number, evidence, now);
        }
    }

    /// Handles the report of an exit record.
    pub fn on_exit_record(&mut self, report: Box<ExitReport>, now: Timestamp) {
        let (id, attempt) = (report.id, report.attempt);
        match self.number_of(id) {
            Some(number) if !self.is_over(number) => {
                if self.apply_report(number, report) {
                    self.finish_launched(number, Evidence::ExitRecord, now);
                }
            }
            // Its end is being committed; until then the exit record stays.
            Some(number) if !self.is_end_committed(number) => {
                if let Some(entry) = self.entries.get_mut(&number) {
                    entry.evidence = Evidence::ExitRecord;
                }
            }
            _ => self.remove(Artifact::ExitRecord { attempt }, id),
        }
    }

    /// Finishes a launched execution, and admits the next.
    fn finish_launched(&mut self, number: u64, evidence: Evidence, now: Timestamp) {
        self.launched -= 1;
        self.finish(number, now, evidence, Vec::new(), None);
        self.admit();
    }

    /// Records the end of an execution.
    pub(super) fn finish(
        &mut self,
        number: u64,
        now: Timestamp,
        evidence: Evidence,
        mut events: Vec<Event>,
        reply: Option<(CancelReply, CancelOutcome)>,
    ) {
        self.close_stdin(number);
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.evidence = evidence;
        let record = entry.record();
        self.metrics.count_finished(&record);
        events.extend(self.event(number, now, EventKind::Finished(record.status)));
        self.trace(number, "finished: recording the end");
        let change = Change::Finished {
            record: Box::new(record),
        };
        self.record(change, events, OnCommit::Finished { number, reply });
    }

    /// Reports the end of an execution to the clients that wait for it.
    pub(super) fn report_end(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.is_end_reported = true;
        entry.end_pause();
        let waiters = std::mem::take(&mut entry.waiters);
        for waiter in waiters {
            let _ = waiter.send(entry.record());
        }
        let status = entry.execution.state.status();
        for reply in std::mem::take(&mut entry.late_cancels) {
            let _ = reply.send(Ok(CancelOutcome::AlreadyFinished(status)));
        }
        let progress = entry.current_progress();
        if let Some(sender) = entry.progress.take() {
            sender.send_replace(progress);
        }
    }

    fn is_over(&self, number: u64) -> bool {
        self.entries.get(&number).is_some_and(Entry::is_over)
    }

    /// Returns whether the end of an execution is committed.
    fn is_end_committed(&self, number: u64) -> bool {
        self.evictable
            .iter()
            .any(|evictable| evictable.number == number)
    }
}
