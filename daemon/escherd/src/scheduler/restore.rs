//! What a new escherd makes of what it finds: the store, the shims that live, and what those that do not
//! have left behind.
//!
//! The store says what was taken on. Whether an execution that was about to start has, its shim's claim tells
//! (see [`escher_launcher::ipc::shim_socket`]): it is there before the command is, and outlives the shim if that is
//! killed. So an execution without shim, exit record and claim has not run, and takes its place in the
//! queue again.

use std::collections::HashSet;

use escher_launcher::ipc::exit_record::ExitRecord;
use escher_launcher::ipc::wire::{Artifact, ShimState};
use escher_protocol::message::EventKind;
use escher_protocol::{CancelMode, Canceller, ExecutionId, Leftovers, Timestamp};

use super::persist::Then;
use super::submit::weigh;
use super::{Entry, EventLog, Scheduler, SchedulerSettings};
use crate::execution::{Ending, Execution, Loss, State, Submission, recall};
use crate::store::{Change, LoadedState, UnfinishedExecution};

/// What becomes of executions that wait when the host is started anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBoot {
    /// They start, in their order.
    #[default]
    Resume,
    /// They are cancelled, by the host.
    Drop,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Diagnostics {
    /// What the store knows.
    pub loaded: LoadedState,
    /// What the living shims say.
    pub shims: Vec<ShimState>,
    /// Executions whose shims live and have not said anything (yet).
    pub silent: HashSet<ExecutionId>,
    /// Exit records.
    pub records: Vec<ExitRecord>,
    /// Executions whose shims were killed: claims without a shim.
    pub claims: HashSet<ExecutionId>,
    /// Whether there is a shim that may have any execution: one that has not said anything.
    pub is_doubtful: bool,
    /// Of the executions that shims and exit records tell of, those that are finished in the store.
    pub known: HashSet<ExecutionId>,
    /// Whether the host was started anew since.
    pub rebooted: bool,
    /// What becomes of those that wait, if it was.
    pub on_boot: OnBoot,
}

impl Scheduler {
    /// An engine that goes on from what was found.
    #[must_use]
    pub fn restore(settings: SchedulerSettings, findings: Diagnostics, now: Timestamp) -> Self {
        let Diagnostics {
            loaded,
            shims,
            silent,
            records,
            claims,
            is_doubtful,
            mut known,
            rebooted,
            on_boot,
        } = findings;
        let mut engine = Scheduler::new(settings);
        engine.is_restoring = true;
        engine.last_number = loaded.last_number;
        engine.events = EventLog::new(loaded.events);
        for unfinished in loaded.unfinished {
            engine.remember(unfinished);
        }
        // Of those that were forgotten, what is left on disk is to be deleted still.
        known.extend(&loaded.undeleted_logs);
        let mut accounted = silent;
        for shim in &shims {
            accounted.insert(shim.id);
            if !known.contains(&shim.id) && engine.by_number(shim.id).is_none() {
                engine.learn(shim, now);
            }
            if let Some(number) = engine.by_number(shim.id) {
                engine.adopted(number, shim);
            }
        }
        for record in records {
            let id = record.report.id;
            if engine.by_number(id).is_some() || known.contains(&id) {
                engine.record_found(Box::new(record), now);
            } else {
                tracing::error!(execution = %id,
                    "an exit record of an execution that the store does not know is left where it is");
            }
        }
        engine.account_for(&accounted, &claims, is_doubtful, rebooted, now);
        let settled = |id: &ExecutionId| engine.by_number(*id).is_none();
        let stale: Vec<ExecutionId> = claims.iter().copied().filter(settled).collect();
        if !stale.is_empty() {
            engine
                .effects
                .push(super::Effect::Remove(Artifact::Claim, stale));
        }
        engine.delete_logs(loaded.undeleted_logs);
        engine.resume_queue(rebooted && on_boot == OnBoot::Drop, now);
        engine
    }

    /// Takes over an execution as the store has it.
    fn remember(&mut self, unfinished: UnfinishedExecution) {
        let UnfinishedExecution {
            submission,
            launching,
            started,
            cancel,
        } = unfinished;
        let number = submission.number;
        let cancel = cancel.map(|(by, kill)| Ending { by, kill });
        let state = match (started, launching) {
            (Some((pid, started_at)), _) => State::Running {
                pid,
                started_at,
                cancel,
            },
            (None, true) => State::Launching { cancel },
            (None, false) => State::Queued,
        };
        let waits = state == State::Queued;
        self.last_number = self.last_number.max(number);
        self.enter(submission, state);
        if waits {
            self.enqueue(number)
        } else {
            self.launched += 1
        }
    }

    fn enter(&mut self, submission: Submission, state: State) {
        let (weight, digest) = weigh(&submission.request, &submission.limits);
        if let Some(key) = &submission.request.key {
            let key = (submission.submitter.uid, key.clone());
            self.keys.insert(key, submission.number);
        }
        let mut entry = Entry::new(Execution::in_state(submission, state), weight, digest);
        entry.is_recorded = true;
        self.insert(entry);
    }

    /// Takes over an execution that the store has lost, from what its shim was given to keep.
    fn learn(&mut self, shim: &ShimState, now: Timestamp) {
        let Ok(mut submission) = recall(&shim.memo) else {
            tracing::error!(execution = %shim.id, shim = shim.pid,
                "a shim runs a command that nothing is known of; it goes on, and leaves an exit record");
            return;
        };
        if self.entries.contains_key(&submission.number) {
            submission.number = self.last_number + 1;
        }
        self.last_number = self.last_number.max(submission.number);
        tracing::warn!(execution = %shim.id, number = submission.number,
            "the store does not know an execution that runs; it is taken over from its shim");
        let event = self.events.happened(&submission, now, EventKind::Submitted);
        let change = Change::Submitted {
            submission: Box::new(submission.clone()),
            digest: None,
            launching: true,
        };
        self.launched += 1;
        self.enter(submission, State::Launching { cancel: None });
        self.record(change, vec![event], Then::Nothing);
    }

    /// Finds out what became of launched executions that nobody has reported on.
    fn account_for(
        &mut self,
        accounted: &HashSet<ExecutionId>,
        claims: &HashSet<ExecutionId>,
        is_doubtful: bool,
        rebooted: bool,
        now: Timestamp,
    ) {
        let is_open = |entry: &&Entry| {
            let id = entry.execution.submission.id;
            entry.execution.state.is_launched() && !accounted.contains(&id)
        };
        let open: Vec<(u64, bool)> = self
            .entries
            .values()
            .filter(is_open)
            .map(|entry| {
                let id = entry.execution.submission.id;
                let has_begun = entry.execution.state.started_at().is_some();
                let number = entry.execution.submission.number;
                (number, has_begun || claims.contains(&id) || is_doubtful)
            })
            .collect();
        for (number, may_have_run) in open {
            match (rebooted, may_have_run) {
                (true, _) => self.lost(number, Loss::HostWentDown, now),
                (false, true) => {
                    self.lost(number, Loss::ShimKilled(Leftovers::Unknown), now);
                }
                (false, false) => self.requeue(number),
            }
        }
    }

    /// It has reached no shim: it waits for its turn, as before.
    fn requeue(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.execution.state = match entry.execution.state.ending() {
                None => State::Queued,
                // Its end was asked for: it goes to a shim, which ends it.
                Some(_) => return self.launch(number),
            };
            self.launched -= 1;
            self.enqueue(number);
        }
    }

    fn resume_queue(&mut self, drop_all: bool, now: Timestamp) {
        if drop_all {
            for number in self.queue.clone() {
                self.cancel_number(number, Canceller::Host, CancelMode::Graceful, now);
            }
        }
        self.is_restoring = false;
        self.admit();
    }
}
