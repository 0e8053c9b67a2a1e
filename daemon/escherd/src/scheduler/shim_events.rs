//! What comes from the shims, and what follows from it.

use escher_launcher::ipc::wire::{Artifact, ExitReport, FromShim, ShimPhase, ShimState, ToShim};
use escher_protocol::message::{CancelOutcome, Event as Happening, EventKind};
use escher_protocol::{ExecutionId, Timestamp};

use super::persist::{CancelReply, Evidence, Then};
use super::{Effect, Entry, Scheduler};
use crate::execution::{Event, Loss};
use crate::store::Change;

impl Scheduler {
    /// A shim has something to tell.
    pub fn shim_news(&mut self, id: ExecutionId, news: FromShim, now: Timestamp) {
        let Some(number) = self.number_of(id) else {
            if matches!(news, FromShim::Exited(_)) {
                // Known and forgotten, so that the shim may forget it, too.
                self.effects.push(Effect::Send(id, ToShim::Recorded));
            }
            return;
        };
        match news {
            FromShim::Started { pid, at } => self.started(number, pid, at),
            FromShim::InputAccepted => {
                if let Some(entry) = self.entries.get_mut(&number)
                    && let Some((reply, sender)) = entry.execution.stdin.accepted()
                {
                    let _ = sender.send(reply);
                }
                self.send_input(number);
            }
            FromShim::InputClosed => self.close_stdin(number),
            FromShim::LogGrew { log_bytes } => self.log_grew(number, log_bytes),
            FromShim::Adoptable(state) => self.on_adopted(number, &state),
            FromShim::Paused(is_on) => self.on_paused(number, is_on),
            FromShim::Exited(report) => {
                if !self.is_over(number) && self.exited(number, report) {
                    self.over(number, Evidence::Report, now);
                } else if self.is_evictable(number) {
                    // A shim that has reported before and never heard that it may forget.
                    self.send(number, ToShim::Recorded);
                }
            }
        }
    }

    /// Moves an execution to the end that was seen; whether it could be.
    fn exited(&mut self, number: u64, report: Box<ExitReport>) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else {
            return false;
        };
        entry.measured = report.measured;
        let limits = entry.execution.submission.request.limits;
        self.transition(number, Event::Exited { report, limits })
            .is_some()
    }

    fn started(&mut self, number: u64, pid: u32, at: Timestamp) {
        if self
            .transition(number, Event::Started { pid, at })
            .is_some()
        {
            if let Some(entry) = self.entries.get(&number)
                && let Some(launched_at) = entry.launched_at
            {
                self.metrics.observe_launch(launched_at.elapsed());
            }
            self.send_pause(number);
            let event = self.event(number, at, EventKind::Started);
            let events = event.into_iter().collect();
            self.record(Change::Started { number, pid, at }, events, Then::Nothing);
        }
    }

    fn log_grew(&mut self, number: u64, log_bytes: u64) {
        if let Some(entry) = self.entries.get(&number)
            && let Some(progress) = &entry.progress
        {
            progress.send_modify(|progress| progress.log_bytes = log_bytes);
        }
    }

    /// A shim that an earlier escherd has started tells where it stands.
    pub(super) fn on_adopted(&mut self, number: u64, state: &ShimState) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        self.metrics.count_adopted();
        entry.has_shim = true;
        entry.execution.stdin.adopt(&state.input);
        let is_starting = entry.execution.state.started_at().is_none();
        self.log_grew(number, state.log_bytes);
        if let ShimPhase::Running { pid, at } = state.phase
            && is_starting
        {
            self.started(number, pid, at);
        }
        self.brief(number);
    }

    /// The shim of `id` is gone without a report that was heard; `evidence` is what it left behind.
    pub fn shim_lost(&mut self, id: ExecutionId, loss: Loss, now: Timestamp) {
        if let Some(number) = self.number_of(id) {
            self.lost(number, loss, now);
        }
    }

    pub(super) fn lost(&mut self, number: u64, loss: Loss, now: Timestamp) {
        let is_launched = |entry: &Entry| entry.execution.state.is_launched();
        let evidence = match loss {
            Loss::ShimKilled(_) => Evidence::Claim,
            Loss::HostWentDown => Evidence::None,
        };
        if self.entries.get(&number).is_some_and(is_launched)
            && self
                .transition(number, Event::Lost { at: now, loss })
                .is_some()
        {
            self.over(number, evidence, now);
        }
    }

    /// An exit record was found.
    pub fn record_found(&mut self, report: Box<ExitReport>, now: Timestamp) {
        let (id, attempt) = (report.id, report.attempt);
        match self.number_of(id) {
            Some(number) if !self.is_over(number) => {
                if self.exited(number, report) {
                    self.over(number, Evidence::ExitRecord, now);
                }
            }
            // Its end is on the way to the disk by other means; until it is there, this stays.
            Some(number) if !self.is_evictable(number) => {
                if let Some(entry) = self.entries.get_mut(&number) {
                    entry.evidence = Evidence::ExitRecord;
                }
            }
            _ => self.remove(Artifact::ExitRecord { attempt }, id),
        }
    }

    /// A launched execution is over, and another may start.
    fn over(&mut self, number: u64, evidence: Evidence, now: Timestamp) {
        self.launched -= 1;
        self.finished(number, now, evidence, Vec::new(), None);
        self.admit();
    }

    /// Everything that follows from the end of an execution.
    pub(super) fn finished(
        &mut self,
        number: u64,
        now: Timestamp,
        evidence: Evidence,
        mut events: Vec<Happening>,
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
        let change = Change::Finished {
            record: Box::new(record),
        };
        self.record(change, events, Then::Finished { number, reply });
    }

    /// Tells everybody who waits for the end of an execution.
    pub(super) fn tell_end(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.is_told = true;
        entry.end_pause();
        let waiters = std::mem::take(&mut entry.waiters);
        for waiter in waiters {
            let _ = waiter.send(entry.record());
        }
        let status = entry.execution.state.status();
        for reply in std::mem::take(&mut entry.late) {
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

    /// Whether the end of an execution is on disk.
    fn is_evictable(&self, number: u64) -> bool {
        self.evictable
            .iter()
            .any(|evictable| evictable.number == number)
    }
}
