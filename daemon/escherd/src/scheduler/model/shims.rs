//! The shims of the model. Each has one command, and reports to escherd or on disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use escher_launcher::ipc::wire::{
    Assignment, EndCause, ExecutionFiles, ExitReport, FromShim, InputState, ShimPhase, ShimState,
    ToShim, WIRE_VERSION,
};
use escher_protocol::{
    Canceller, ExecutionId, Exit, Measurements, OutputTotals, ResourceLimits, SentSignals,
    SignalAnswer, SignalSerial, Timestamp,
};

const PID: u32 = 7;

#[derive(Debug)]
struct Shim {
    assignment: Assignment,
    /// Messages on their way to escherd.
    messages: VecDeque<FromShim>,
    started: Timestamp,
    cancel: Option<Canceller>,
    is_paused: bool,
    signals: SentSignals,
    /// Bytes that its log may take; it takes them all.
    log_budget: u64,
    /// Whether it waits for a larger budget.
    wants_log_budget: bool,
    end: Option<ExitReport>,
}

/// What of an environment matters.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) bytes: usize,
    /// Whether it has what its submitter passes on.
    pub(super) is_inherited: bool,
}

/// A launch that waits for a shim, with the messages behind it.
#[derive(Debug)]
struct WaitingLaunch {
    assignment: Assignment,
    messages: Vec<ToShim>,
}

/// All shims, and what dead ones have left.
#[derive(Debug, Default)]
pub(super) struct Shims {
    /// Whether there is no launcher, and so no shim for a launch.
    is_without_launcher: bool,
    waiting: Vec<WaitingLaunch>,
    alive: BTreeMap<ExecutionId, Shim>,
    /// Commands that have begun since the last look.
    begun: Vec<ExecutionId>,
    pub(super) exit_records: BTreeMap<ExecutionId, ExitReport>,
    pub(super) claims: BTreeSet<ExecutionId>,
    /// How often each command has begun.
    pub(super) runs: BTreeMap<ExecutionId, u32>,
    /// How commands have ended, by their shims.
    pub(super) ends: BTreeMap<ExecutionId, ExitReport>,
    /// Limits with which commands were started.
    pub(super) limits: BTreeMap<ExecutionId, ResourceLimits>,
    /// The environments with which commands were started.
    pub(super) environments: BTreeMap<ExecutionId, Environment>,
    /// Executions that were paused at some time.
    pub(super) paused: BTreeSet<ExecutionId>,
    /// The signals that shims have sent.
    pub(super) signals: BTreeMap<ExecutionId, Vec<SignalSerial>>,
    /// Executions whose shims were sent a cancel.
    pub(super) ended_by_request: BTreeSet<ExecutionId>,
    /// Executions whose shims were killed, or lost with the host.
    pub(super) killed: BTreeSet<ExecutionId>,
}

impl Shims {
    pub(super) fn launch(&mut self, assignment: Assignment, now: Timestamp) {
        if self.is_without_launcher {
            let messages = Vec::new();
            self.waiting.push(WaitingLaunch {
                assignment,
                messages,
            });
        } else {
            self.begin(assignment, now);
        }
    }

    /// Takes the launcher away, or brings another, whose shims take the launches that wait.
    pub(super) fn set_launcher(&mut self, is_there: bool, now: Timestamp) {
        self.is_without_launcher = !is_there;
        if is_there {
            for waiting in std::mem::take(&mut self.waiting) {
                let id = waiting.assignment.spec.id;
                self.begin(waiting.assignment, now);
                for message in waiting.messages {
                    self.send(id, message);
                }
            }
        }
    }

    pub(super) fn has_launcher(&self) -> bool {
        !self.is_without_launcher
    }

    /// Gives up a launch that waits for a shim. Returns whether it did.
    pub(super) fn withdraw(&mut self, id: ExecutionId) -> bool {
        let count = self.waiting.len();
        self.waiting
            .retain(|waiting| waiting.assignment.spec.id != id);
        self.waiting.len() < count
    }

    /// Returns the commands that have begun since the last call.
    pub(super) fn take_begun(&mut self) -> Vec<ExecutionId> {
        std::mem::take(&mut self.begun)
    }

    fn begin(&mut self, assignment: Assignment, now: Timestamp) {
        let id = assignment.spec.id;
        self.begun.push(id);
        self.limits.insert(id, assignment.limits);
        let variables = &assignment.spec.environment;
        let environment = Environment {
            bytes: variables.iter().map(|variable| variable.len()).sum(),
            is_inherited: variables.contains(&"Y=inherited".into()),
        };
        self.environments.insert(id, environment);
        *self.runs.entry(id).or_default() += 1;
        let started = FromShim::Started { pid: PID, at: now };
        let shim = Shim {
            log_budget: assignment.log_budget,
            wants_log_budget: false,
            assignment,
            messages: VecDeque::from([started]),
            started: now,
            cancel: None,
            is_paused: false,
            signals: SentSignals::default(),
            end: None,
        };
        self.alive.insert(id, shim);
    }

    pub(super) fn send(&mut self, id: ExecutionId, message: ToShim) {
        let mut waiting = self.waiting.iter_mut();
        if let Some(waiting) = waiting.find(|waiting| waiting.assignment.spec.id == id) {
            waiting.messages.push(message);
            return;
        }
        let Some(shim) = self.alive.get_mut(&id) else {
            if message == ToShim::Recorded {
                self.claims.remove(&id);
            }
            return;
        };
        match message {
            ToShim::Cancel { by, .. } if shim.end.is_none() => {
                shim.cancel.get_or_insert(by);
                self.ended_by_request.insert(id);
            }
            ToShim::Recorded => {
                assert!(
                    shim.end.is_some(),
                    "acknowledged a report that was never sent"
                );
                self.alive.remove(&id);
            }
            ToShim::Pause if shim.end.is_none() && !shim.is_paused => {
                shim.is_paused = true;
                shim.messages.push_back(FromShim::Paused(true));
                self.paused.insert(id);
            }
            ToShim::Resume if shim.end.is_none() && shim.is_paused => {
                shim.is_paused = false;
                shim.messages.push_back(FromShim::Paused(false));
            }
            ToShim::Signal(order) if shim.end.is_none() => {
                let sent = self.signals.entry(id).or_default();
                if !sent.contains(&order.serial) {
                    sent.push(order.serial);
                    shim.signals.add(order.signal, order.by, shim.started);
                }
                shim.messages.push_back(FromShim::Signalled {
                    serial: order.serial,
                    answer: SignalAnswer::Sent,
                    sent: shim.signals.clone(),
                });
            }
            ToShim::LogBudget { bytes } => {
                assert!(bytes >= shim.log_budget, "a budget has become smaller");
                if shim.end.is_none() {
                    shim.log_budget = bytes;
                }
                shim.wants_log_budget = false;
            }
            _ => {}
        }
    }

    /// Fills the log of one of the running commands, so that its shim asks for a larger budget.
    pub(super) fn fill_log(&mut self, which: usize) {
        let running = self.alive.values_mut().filter(|shim| shim.end.is_none());
        let mut running: Vec<_> = running.collect();
        let count = running.len().max(1);
        if let Some(shim) = running.get_mut(which % count)
            && !shim.wants_log_budget
        {
            shim.wants_log_budget = true;
            let bytes = 2 * shim.log_budget;
            shim.messages.push_back(FromShim::LogBudgetWanted { bytes });
        }
    }

    /// Returns what the log of each living shim may take.
    pub(super) fn log_budgets(&self) -> impl Iterator<Item = (ExecutionId, u64)> {
        self.alive.iter().map(|(id, shim)| (*id, shim.log_budget))
    }

    pub(super) fn delete(&mut self, files: ExecutionFiles, ids: &[ExecutionId]) {
        for id in ids {
            match files {
                ExecutionFiles::ExitRecord { .. } => drop(self.exit_records.remove(id)),
                ExecutionFiles::Claim { .. } => drop(self.claims.remove(id)),
                ExecutionFiles::Log => {}
            }
        }
    }

    /// Ends one of the running commands.
    pub(super) fn end(&mut self, which: usize, code: i32, now: Timestamp) {
        let running = self.alive.iter_mut().filter(|shim| shim.1.end.is_none());
        let running: Vec<_> = running.collect();
        let count = running.len();
        if count > 0
            && let Some((id, shim)) = running.into_iter().nth(which % count)
        {
            let end = shim.end(code, now);
            self.ends.insert(*id, end);
        }
    }

    pub(super) fn running(&self) -> usize {
        self.alive
            .values()
            .filter(|shim| shim.end.is_none())
            .count()
    }

    pub(super) fn alive(&self) -> usize {
        self.alive.len()
    }

    /// Takes the next message of one of the shims.
    pub(super) fn deliver(&mut self, which: usize) -> Option<(ExecutionId, FromShim)> {
        let mut with_messages: Vec<_> = self
            .alive
            .iter_mut()
            .filter(|shim| !shim.1.messages.is_empty())
            .collect();
        let count = with_messages.len().max(1);
        let (id, shim) = with_messages.get_mut(which % count)?;
        Some((**id, shim.messages.pop_front()?))
    }

    /// Kills one shim. Messages that it has sent still arrive.
    pub(super) fn kill(&mut self, which: usize) -> Option<(ExecutionId, Vec<FromShim>)> {
        let count = self.alive.len();
        let id = *self.alive.keys().nth(which.checked_rem(count)?)?;
        let shim = self.alive.remove(&id)?;
        self.claims.insert(id);
        self.killed.insert(id);
        Some((id, shim.messages.into()))
    }

    /// Disconnects all shims from escherd. Those with a report write their exit records.
    pub(super) fn lose_escherd(&mut self) {
        self.waiting.clear();
        for shim in self.alive.values_mut() {
            shim.messages.clear();
            if std::mem::take(&mut shim.wants_log_budget) && shim.end.is_none() {
                shim.log_budget *= 2;
            }
        }
        self.alive.retain(|id, shim| {
            if let Some(end) = shim.end.take() {
                self.exit_records.insert(*id, end);
                return false;
            }
            true
        });
    }

    /// Loses everything in memory and in the runtime directory.
    pub(super) fn power_cut(&mut self, in_doubt: impl Iterator<Item = ExecutionId>) {
        self.killed.extend(in_doubt);
        self.killed.extend(self.alive.keys());
        self.alive.clear();
        self.claims.clear();
    }

    pub(super) fn states(&self) -> Vec<ShimState> {
        let state = |(id, shim): (&ExecutionId, &Shim)| ShimState {
            version: WIRE_VERSION,
            pid: PID,
            id: *id,
            attempt: shim.assignment.spec.attempt,
            submission_backup: shim.assignment.submission_backup.clone(),
            phase: ShimPhase::Running {
                pid: PID,
                at: shim.started,
            },
            is_paused: shim.is_paused,
            log_bytes: 0,
            log_budget: shim.log_budget,
            input: InputState::default(),
            signals: shim.signals.clone(),
        };
        self.alive.iter().map(state).collect()
    }
}

impl Shim {
    fn end(&mut self, code: i32, now: Timestamp) -> ExitReport {
        let measured = Measurements {
            user_us: Some(5),
            oom_kills: Some(code.unsigned_abs().into()),
            ..Measurements::default()
        };
        let spec = &self.assignment.spec;
        let report = ExitReport {
            cause: match self.cancel.clone() {
                Some(by) => EndCause::Cancelled(by),
                None => EndCause::Itself,
            },
            signals: self.signals.clone(),
            started_at: Some(self.started),
            duration_us: 1,
            measured: Some(measured),
            output: OutputTotals {
                stdout_bytes: self.log_budget,
                log_bytes: self.log_budget,
                ..OutputTotals::default()
            },
            ..ExitReport::new(spec.id, spec.attempt, Exit::Code(code), now)
        };
        self.messages
            .push_back(FromShim::Exited(Box::new(report.clone())));
        self.end = Some(report.clone());
        report
    }
}
