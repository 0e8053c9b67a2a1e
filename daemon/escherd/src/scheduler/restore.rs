//! Recovery after a restart, from the store, the living shims, and what dead shims have left.
//!
//! The store has the unfinished executions. Whether an admitted one has begun is known from its claim
//! (see [`escher_launcher::ipc::shim_socket`]): a claim is made before the command, and outlives a shim that is
//! killed. So an execution without shim, exit record and claim has not run, and returns to its place in the queue. After
//! a reboot claims are gone, and every admitted execution is lost.

use std::collections::HashSet;

use escher_launcher::ipc::wire::{ExecutionFiles, ExitReport, FIRST_ATTEMPT, ShimState};
use escher_protocol::message::EventKind;
use escher_protocol::{CancelMode, Canceller, ExecutionId, Leftovers, Timestamp};

use super::persist::OnCommit;
use super::submit::size_and_digest;
use super::withdrawal::LaunchPhase;
use super::{Entry, EventLog, Scheduler, SchedulerSettings};
use crate::config::OnBoot;
use crate::execution::{
    CancelRequest, Execution, Loss, State, Transition, decode_submission_backup,
};
use crate::store::{Change, LoadedState, RequestDigest, UnfinishedExecution};

/// Everything that a start has found.
#[derive(Debug, Default)]
pub struct RecoveredState {
    /// From the store.
    pub loaded: LoadedState,
    /// States of the living shims.
    pub shims: Vec<ShimState>,
    /// Executions whose shims live and have not reported their state yet.
    pub silent: HashSet<ExecutionId>,
    /// Exit reports from exit records.
    pub reports: Vec<ExitReport>,
    /// Executions that are left to a later escherd: another version of it understands their shim or exit record, or
    /// their shim lives and cannot be reached.
    pub for_later_escherd: HashSet<ExecutionId>,
    /// Executions whose shims were killed: their claims have no listener.
    pub dead_claims: HashSet<ExecutionId>,
    /// Whether a living shim has not reported which execution it has.
    pub has_unidentified_shim: bool,
    /// Executions of shims and exit records that are finished in the store.
    pub finished: HashSet<ExecutionId>,
    /// Whether the host was rebooted since.
    pub rebooted: bool,
    /// What happens to pending executions if it was.
    pub on_boot: OnBoot,
}

impl Scheduler {
    /// Creates a scheduler that continues from `recovered`.
    #[must_use]
    pub fn restore(settings: SchedulerSettings, recovered: RecoveredState, now: Timestamp) -> Self {
        let RecoveredState {
            loaded,
            shims,
            silent,
            reports,
            for_later_escherd,
            dead_claims,
            has_unidentified_shim,
            mut finished,
            rebooted,
            on_boot,
        } = recovered;
        let mut scheduler = Scheduler::new(settings);
        scheduler.is_restoring = true;
        scheduler.log_budgets.set_finished(&loaded.log_bytes);
        scheduler.last_number = loaded.last_number;
        scheduler.events = EventLog::new(loaded.events, loaded.missed_events);
        for unfinished in loaded.unfinished {
            scheduler.restore_unfinished(unfinished);
        }
        // Exit records of removed executions are deleted, too.
        finished.extend(&loaded.undeleted_logs);
        // Executions whose end a shim, or an escherd of another version, will report.
        let mut still_reporting: HashSet<ExecutionId> = &silent | &for_later_escherd;
        for shim in &shims {
            still_reporting.insert(shim.id);
            if !finished.contains(&shim.id) && scheduler.number_of(shim.id).is_none() {
                scheduler.restore_from_shim(shim, now);
            }
            if let Some(number) = scheduler.number_of(shim.id) {
                scheduler.on_adopted(number, shim);
            }
        }
        for report in reports {
            let id = report.id;
            if scheduler.number_of(id).is_some() || finished.contains(&id) {
                scheduler.on_exit_record(Box::new(report), now);
            } else {
                tracing::error!(execution = %id,
                    "found an exit record of an execution that is not in the store; leaving the file in place");
            }
        }
        scheduler.resolve_unreported(
            &still_reporting,
            &dead_claims,
            has_unidentified_shim,
            rebooted,
            now,
        );
        let is_finished = |id: &ExecutionId| scheduler.number_of(*id).is_none();
        let stale: Vec<ExecutionId> = dead_claims.iter().copied().filter(is_finished).collect();
        if !stale.is_empty() {
            let attempt = FIRST_ATTEMPT;
            scheduler.effects.push(super::Effect::DeleteFiles(
                ExecutionFiles::Claim { attempt },
                stale,
            ));
        }
        scheduler.delete_logs(loaded.undeleted_logs);
        scheduler.resume_queue(rebooted && on_boot == OnBoot::Drop, now);
        scheduler
    }

    /// Takes over an execution from the store.
    fn restore_unfinished(&mut self, unfinished: UnfinishedExecution) {
        let UnfinishedExecution {
            submission,
            extent,
            request_bytes,
            digest,
            is_admitted,
            launch_attempts,
            started,
            cancel,
        } = unfinished;
        let number = submission.number;
        let cancel = cancel.map(|(by, mode)| CancelRequest { by, mode });
        let state = match (started, is_admitted) {
            (Some((pid, started_at)), _) => State::Running {
                pid,
                started_at,
                cancel,
            },
            (None, true) => State::Admitted { cancel },
            (None, false) => State::Queued,
        };
        let is_queued = state == State::Queued;
        self.running += usize::from(state.is_running());
        self.last_number = self.last_number.max(number);
        let execution = Execution {
            extent,
            ..Execution::in_state(submission, state)
        };
        self.insert_restored(execution, request_bytes, digest, launch_attempts);
        if is_queued {
            self.enqueue(number);
        } else {
            self.set_launched_before(number);
            self.take_slot(number);
        }
    }

    /// Adds an execution that the store, or a shim, has kept.
    fn insert_restored(
        &mut self,
        execution: Execution,
        request_bytes: u64,
        digest: Option<RequestDigest>,
        launch_attempts: u32,
    ) {
        let submission = &execution.submission;
        if let Some(key) = &submission.request.key {
            let key = (submission.submitter.clone(), key.clone());
            self.keys.insert(key, submission.number);
        }
        let mut entry = Entry::new(execution, request_bytes, digest);
        entry.is_committed = true;
        entry.launch_attempts = launch_attempts;
        self.insert(entry);
    }

    /// Takes over an execution that the store has lost, from the backup of the submission in its shim.
    fn restore_from_shim(&mut self, shim: &ShimState, now: Timestamp) {
        let Ok(mut submission) = decode_submission_backup(&shim.submission_backup) else {
            tracing::error!(execution = %shim.id, shim = shim.pid,
                "a shim runs an unknown command; it runs on, and its shim keeps the report");
            self.without_submission.insert(shim.id);
            return;
        };
        if self.entries.contains_key(&submission.number) {
            submission.number = self.last_number + 1;
        }
        self.last_number = self.last_number.max(submission.number);
        tracing::warn!(execution = %shim.id, number = submission.number,
            "a running execution is not in the store; restored it from its shim");
        let event = self.events.assign(&submission, now, EventKind::Submitted);
        let (request_bytes, digest) = size_and_digest(&mut submission.request);
        let change = Change::Restored {
            submission: Box::new(submission.clone()),
            digest,
        };
        let number = submission.number;
        let execution = Execution::in_state(submission, State::Admitted { cancel: None });
        self.insert_restored(execution, request_bytes, digest, 1);
        self.set_launched_before(number);
        self.take_slot(number);
        self.commit(change, vec![event], OnCommit::Nothing);
    }

    /// Decides about admitted executions that have neither a shim nor an exit record.
    fn resolve_unreported(
        &mut self,
        still_reporting: &HashSet<ExecutionId>,
        dead_claims: &HashSet<ExecutionId>,
        has_unidentified_shim: bool,
        rebooted: bool,
        now: Timestamp,
    ) {
        let is_unresolved = |entry: &&Entry| {
            let id = entry.execution.submission.id;
            entry.execution.state.has_slot() && !still_reporting.contains(&id)
        };
        let unresolved: Vec<(u64, bool)> = self
            .entries
            .values()
            .filter(is_unresolved)
            .map(|entry| {
                let id = entry.execution.submission.id;
                let has_begun = entry.execution.state.started_at().is_some();
                let number = entry.execution.submission.number;
                (
                    number,
                    has_begun || dead_claims.contains(&id) || has_unidentified_shim,
                )
            })
            .collect();
        for (number, may_have_run) in unresolved {
            match (rebooted, may_have_run) {
                (true, _) => self.finish_lost(number, Loss::HostWentDown, now),
                (false, true) => {
                    self.finish_lost(number, Loss::ShimDied(Leftovers::Unknown), now);
                }
                (false, false) => self.resume_unlaunched(number, now),
            }
        }
    }

    /// Takes up an admitted execution that has reached no shim: it returns to the queue, unless it was cancelled
    /// meanwhile, or escherd has died at its launch too often. Then it ends here.
    fn resume_unlaunched(&mut self, number: u64, now: Timestamp) {
        let max_attempts = self.settings.max_launch_attempts;
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if entry.execution.submission.lacks_inherited {
            // Nobody was told of it, and who submitted it asks again.
            if let Some(key) = entry.execution.submission.request.key.take() {
                self.keys.remove(&(entry.submitter().clone(), key));
            }
            return self.finish_unlaunched(number, Transition::EnvironmentLost { at: now }, now);
        }
        let attempts = entry.launch_attempts;
        if entry.execution.state.cancel_request().is_none() && attempts < max_attempts {
            entry.execution.state = State::Queued;
            entry.launch_phase = LaunchPhase::NotBegun;
            self.free_slot(number);
            return self.enqueue(number);
        }
        let failure = Transition::LaunchAbandoned { attempts, at: now };
        self.finish_unlaunched(number, failure, now);
    }

    /// Notes that this escherd stops in an orderly way: the launches that it has begun and not seen through do
    /// not count.
    pub fn clear_launch_attempts(&mut self) {
        let is_unlaunched = |entry: &&Entry| {
            matches!(entry.execution.state, State::Admitted { .. }) && entry.launch_attempts > 0
        };
        let unlaunched = self.entries.values().filter(is_unlaunched);
        let numbers: Vec<u64> = unlaunched
            .map(|entry| entry.execution.submission.number)
            .collect();
        if !numbers.is_empty() {
            let change = Change::LaunchAttemptsCleared { numbers };
            self.commit(change, Vec::new(), OnCommit::Nothing);
        }
    }

    /// Puts a pending execution, whose submission is committed, in the queue.
    fn enqueue(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number) {
            let (user, bytes) = (entry.submitter(), entry.request_bytes);
            self.shares.add_pending(user, bytes);
            self.shares.make_eligible(user.uid, number, bytes);
        }
    }

    /// Notes that an earlier escherd has launched an execution, as far as is known.
    fn set_launched_before(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.launch_phase = LaunchPhase::ByEarlierEscherd;
        }
    }

    fn take_slot(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number) {
            self.shares.take_slot(entry.submitter());
        }
    }

    fn resume_queue(&mut self, drop_all: bool, now: Timestamp) {
        if drop_all {
            for number in self.shares.eligible() {
                self.cancel_without_answer(number, Canceller::Host, CancelMode::Graceful, now);
            }
        }
        self.is_restoring = false;
        self.admit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::{Extent, sample};
    use crate::scheduler::Effect;
    use crate::scheduler::testbed::{at, commit, settings, submit_as};
    use escher_launcher::ipc::wire::{InputState, ShimPhase, WIRE_VERSION};
    use escher_protocol::{Blob, ErrorCode, ExecutionRequest, SentSignals, Status, User};

    /// What a start finds after a crash: one admitted execution, which has reached no shim.
    fn after_a_crash(
        launch_attempts: u32,
        cancel: Option<(Canceller, CancelMode)>,
    ) -> RecoveredState {
        let unfinished = UnfinishedExecution {
            submission: sample::submission(1, ExecutionRequest::default()),
            extent: Extent::Whole,
            request_bytes: 0,
            digest: None,
            is_admitted: true,
            launch_attempts,
            started: None,
            cancel,
        };
        RecoveredState {
            loaded: LoadedState {
                last_number: 1,
                unfinished: vec![unfinished],
                ..LoadedState::default()
            },
            ..RecoveredState::default()
        }
    }

    fn restore(recovered: RecoveredState) -> (Scheduler, Vec<Effect>) {
        let mut scheduler = Scheduler::restore(settings(10), recovered, at(9));
        let effects = commit(&mut scheduler, at(9));
        (scheduler, effects)
    }

    #[test]
    fn an_execution_at_whose_launch_escherd_died_is_launched_again_but_not_for_ever() {
        for attempts in 1..3 {
            let (_, effects) = restore(after_a_crash(attempts, None));
            assert!(matches!(*effects, [Effect::Launch(_)]), "{effects:?}");
        }
        let (mut scheduler, effects) = restore(after_a_crash(3, None));
        assert_eq!(effects, []);
        let record = scheduler.status(1).try_recv().unwrap();
        let error = record.outcome.unwrap().error.unwrap();
        assert_eq!(record.status, Status::Failed);
        assert_eq!(error.code, ErrorCode::LAUNCH_ABANDONED);
        assert!(error.message.contains("3 launches"), "{error}");
        assert_eq!(
            (scheduler.shares.used_slots(), scheduler.shares.pending()),
            (0, 0)
        );
    }

    #[test]
    fn a_cancelled_execution_that_has_reached_no_shim_ends_without_one() {
        let bob = User { uid: 7, name: None };
        let cancel = Some((Canceller::User(bob), CancelMode::Graceful));
        let (mut scheduler, effects) = restore(after_a_crash(1, cancel.clone()));
        assert_eq!(effects, []);
        let record = scheduler.status(1).try_recv().unwrap();
        assert_eq!(record.status, Status::Cancelled);
        assert_eq!(record.cancelled_by, cancel.map(|(canceller, _)| canceller));
        assert_eq!(
            (scheduler.shares.used_slots(), scheduler.shares.pending()),
            (0, 0)
        );
    }

    /// It was shown as running until its shim had said so in a second message.
    #[test]
    fn a_paused_execution_is_known_as_paused_from_the_start() {
        let recovered = after_a_crash(1, None);
        let submission = &recovered.loaded.unfinished[0].submission;
        let shim = ShimState {
            version: WIRE_VERSION,
            pid: 5,
            id: submission.id,
            attempt: FIRST_ATTEMPT,
            submission_backup: Blob::default(),
            phase: ShimPhase::Running { pid: 6, at: at(2) },
            is_paused: true,
            log_bytes: 0,
            log_budget: 0,
            input: InputState::default(),
            signals: SentSignals::default(),
        };
        let (mut scheduler, _) = restore(RecoveredState {
            shims: vec![shim],
            ..recovered
        });
        let record = scheduler.status(1).try_recv().unwrap();
        assert_eq!(record.status, Status::Running);
        assert!(record.resources.paused);
    }

    #[test]
    fn a_clean_stop_clears_the_attempts_of_what_is_not_launched_yet() {
        let mut scheduler = Scheduler::restore(settings(10), after_a_crash(2, None), at(9));
        scheduler.take_effects();
        scheduler.clear_launch_attempts();
        let [Effect::Commit(entry)] = &*scheduler.take_effects() else {
            panic!("one change");
        };
        assert_eq!(
            entry.change,
            Change::LaunchAttemptsCleared { numbers: vec![1] }
        );
    }

    #[test]
    fn a_clean_stop_clears_the_attempt_of_a_launch_since_the_start() {
        let mut scheduler = Scheduler::new(settings(10));
        let (number, _) = submit_as(&mut scheduler, 1000).unwrap();
        scheduler.clear_launch_attempts();
        let [Effect::Commit(entry)] = &*scheduler.take_effects() else {
            panic!("one change");
        };
        let numbers = vec![number];
        assert_eq!(entry.change, Change::LaunchAttemptsCleared { numbers });
    }
}
