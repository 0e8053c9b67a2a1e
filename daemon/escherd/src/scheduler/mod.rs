//! The scheduler: the owner of the state of all unfinished and recently finished executions.
//!
//! [`Scheduler`] holds the executions, the queue and the events, and does no I/O: what has to happen outside
//! comes out as [`Effect`]s. One task owns it; other tasks call it through a [`SchedulerHandle`].
//!
//! Every change of an execution goes to the [`store`]. What must survive a crash is reported or done only after
//! the commit of its change ([`persist`]). [`restore`] recovers the state after a restart. Finished executions
//! leave memory after a while ([`evict`]).

mod control;
mod events;
mod evict;
mod finish;
mod handle;
mod key_conflict;
mod log_budgets;
mod lookup;
mod metrics;
#[cfg(test)]
mod model;
mod pause;
mod persist;
mod queries;
mod restore;
mod shares;
mod shim_events;
mod signals;
mod stdin_hold;
mod submit;
#[cfg(test)]
pub(crate) mod testbed;
mod usage;
mod waiters;
mod withdrawal;

pub use control::not_running;
pub use events::EventLog;
pub use evict::{NotFinishedError, RemovalAnswer};
pub use handle::{CommitOutcomes, SchedulerHandle, Stopped, start};
pub(crate) use metrics::SchedulerMetrics;
pub use pause::PauseAnswer;
pub use queries::{Counts, Listed, OutputProgress};
pub use restore::RecoveredState;
pub use signals::{SignalProgress, SignalRequest, check_signal};
pub use stdin_hold::{HeldStdin, HoldAnswer};
pub use usage::{MeasuredPage, UsageQuestion};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

use escher_launcher::ipc::wire::{
    Abilities, Assignment, ExecutionFiles, LogDirAbilities, LogLimits, ProcessDefaults, ToShim,
};
use escher_protocol::message::{CancelAnswer, EventKind};
use escher_protocol::{
    ApiError, Blob, Controllers, ExecutionId, ExecutionRecord, Measurements, ResourceLimits, Text,
    Timestamp, User,
};
use tokio::sync::{oneshot, watch};

use crate::config::Percent;
use crate::execution::{
    Action, CancelRequest, Execution, Extent, RequestLimits, Submission, Transition,
};
use crate::store::{self, Durability, RequestDigest};
use evict::Evictable;
use finish::Evidence;
use log_budgets::LogBudgets;
use pause::Pause;
use persist::{OnCommit, PendingChange};
use shares::{Limits, Shares, SlotLimits};
use signals::PendingSignals;
use stdin_hold::StdinHolders;
use submit::SubmitResponder;
use usage::UsageWaiters;
use withdrawal::{LaunchPhase, WaitingCancel};

/// Settings of the scheduler.
#[derive(Debug, Clone)]
pub struct SchedulerSettings {
    /// Settings that apply to a single request.
    pub request: RequestLimits,
    /// Most executions that run at once, those in root's own slots aside.
    pub max_concurrent: usize,
    /// Slots that root has beyond them.
    pub root_slots: usize,
    /// Most pending executions.
    pub max_pending: usize,
    /// Most bytes of pending requests, which the store has.
    pub max_pending_bytes: u64,
    /// The share of both that one user may take; `None`: there is only one user.
    pub queue_share: Option<Percent>,
    /// Most finished executions in memory.
    pub max_in_memory: usize,
    /// How often a launch is begun, if escherd dies each time.
    pub max_launch_attempts: u32,
    /// Directory of the logs.
    pub log_dir: std::path::PathBuf,
    /// Limits of each log.
    pub log_limits: LogLimits,
    /// The share of the log disk that the logs of one user other than root may take.
    pub log_share: Percent,
    /// Most bytes that a command may write to one stream before it is ended; `None`: no limit.
    pub output_limit: Option<u64>,
    /// Limits of everything that one user other than root runs.
    pub user_limits: ResourceLimits,
    /// Most executions of one user other than root that may have left processes running.
    pub max_left: u32,
    /// What a commit survives.
    pub durability: Durability,
}

/// Something to be done outside of the scheduler.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have the store commit a change.
    Commit(Box<store::ChangeEntry>),
    /// Launch a command on a shim.
    Launch(Box<Assignment>),
    /// Give up the launch of an execution if it waits for a shim. [`Scheduler::on_withdrawal`] takes the answer.
    Withdraw(ExecutionId),
    /// Send a message to the shim of a launched execution; never a launch.
    Send(ExecutionId, ToShim),
    /// Have the launcher delete files of these executions.
    DeleteFiles(ExecutionFiles, Vec<ExecutionId>),
    /// Have the launcher take the access to the logs of these executions from a user.
    RevokeRead {
        /// Which user.
        uid: u32,
        /// Which executions.
        ids: Vec<ExecutionId>,
    },
}

/// An execution with the clients that wait for it.
#[derive(Debug)]
struct Entry {
    execution: Execution,
    /// Bytes of its encoded request.
    request_bytes: u64,
    /// How often its launch was begun, by this escherd and by those before it that have crashed.
    launch_attempts: u32,
    /// The digest of its request, if that has a key.
    digest: Option<RequestDigest>,
    /// Whether its submission is committed. Until then it exists for its submitter alone.
    is_committed: bool,
    /// When this scheduler got it.
    known_since: Instant,
    /// When this scheduler launched it, if it did.
    launched_at: Option<Instant>,
    launch_phase: LaunchPhase,
    /// Cancels that wait until it is known whether a shim has it.
    waiting_cancels: Vec<WaitingCancel>,
    /// The PATH in which its program is looked up, until that runs.
    search_path: Option<Blob>,
    /// Whether it is paused, and the clients that wait for a change.
    pause: Pause,
    /// Clients that wait for its current usage.
    usage_waiters: UsageWaiters,
    /// Signals that its shim has not answered.
    signals: PendingSignals,
    /// Who holds its standard input.
    stdin_hold: StdinHolders,
    /// What its cgroup has counted, from the exit report.
    measured: Option<Measurements>,
    /// The evidence of its end, until that is committed.
    evidence: Evidence,
    /// Whether its end was reported to clients.
    is_end_reported: bool,
    /// Whether its end is committed.
    is_end_committed: bool,
    /// The answers to its submitters, which wait for the commit of the submission, or for its shim.
    submit_responders: Vec<SubmitResponder>,
    /// Whether these are sent when its shim has reported itself: until then the store alone could not run it.
    is_answered_by_shim: bool,
    /// Clients that wait for the end.
    waiters: Vec<oneshot::Sender<ExecutionRecord>>,
    /// Cancels that came after the end, while that was not committed yet.
    late_cancels: Vec<oneshot::Sender<Result<CancelAnswer, ApiError>>>,
    /// Created for the first follower.
    progress: Option<watch::Sender<OutputProgress>>,
}

impl SchedulerSettings {
    /// Returns the limits of everything that this user runs: none for root.
    fn user_limits_of(&self, uid: u32) -> ResourceLimits {
        if uid == 0 {
            ResourceLimits::default()
        } else {
            self.user_limits
        }
    }

    /// Returns how many executions of this user may have left processes running: any number of root's.
    fn max_left_of(&self, uid: u32) -> u32 {
        if uid == 0 { u32::MAX } else { self.max_left }
    }

    fn limits(&self) -> Limits {
        Limits::new(
            SlotLimits {
                ordinary: self.max_concurrent,
                root: self.root_slots,
            },
            self.max_pending,
            self.max_pending_bytes,
            self.queue_share,
        )
    }
}

/// The scheduler: see the [module](self).
#[derive(Debug)]
pub struct Scheduler {
    settings: SchedulerSettings,
    /// Which resources the launcher can limit and measure; `None`: commands have no cgroups.
    controllers: Option<Controllers>,
    /// Whether a launcher is connected.
    has_launcher: bool,
    /// What a command gets that sets no limits of its processes; `None`: no launcher has connected yet.
    process_defaults: Option<ProcessDefaults>,
    /// What the launcher can do in the directory of the logs; `None`: none has connected yet.
    log_dir: Option<LogDirAbilities>,
    /// Executions by number, which is the order of submission.
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<ExecutionId, u64>,
    keys: HashMap<(User, Text), u64>,
    last_number: u64,
    /// How many executions are running. More have a slot: those that wait for a shim, too.
    running: usize,
    /// Pending executions, and what each user takes.
    shares: Shares,
    /// What the logs of each user take of their disk.
    log_budgets: LogBudgets,
    /// Ends that are committed to the journal alone, by the tickets of their changes.
    journaled_ends: HashMap<u64, u64>,
    /// Finished executions whose end the database has, in the order in which it got them.
    evictable: VecDeque<Evictable>,
    /// Bytes of their requests.
    evictable_bytes: u64,
    last_ticket: u64,
    /// When inputs are lost, with the numbers of their executions.
    stdin_deadlines: BTreeSet<(Instant, u64)>,
    /// The token of the last client that was given an input.
    last_stdin_holder: u64,
    /// Changes that are not committed yet, by ticket.
    pending_changes: HashMap<u64, PendingChange>,
    /// Callers that wait for the commit of all changes up to a ticket.
    commit_waiters: Vec<(u64, oneshot::Sender<()>)>,
    /// Executions with a living shim of which neither the store nor the shim knows the submission.
    without_submission: HashSet<ExecutionId>,
    events: EventLog,
    metrics: SchedulerMetrics,
    effects: Vec<Effect>,
    is_shutting_down: bool,
    /// Whether recovery is in progress, during which nothing is admitted.
    is_restoring: bool,
}

impl Scheduler {
    /// Creates a scheduler without executions.
    #[must_use]
    pub fn new(settings: SchedulerSettings) -> Self {
        Scheduler {
            shares: Shares::new(settings.limits()),
            log_budgets: LogBudgets::new(settings.log_share),
            settings,
            controllers: None,
            has_launcher: false,
            process_defaults: None,
            log_dir: None,
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            keys: HashMap::new(),
            last_number: 0,
            running: 0,
            journaled_ends: HashMap::new(),
            evictable: VecDeque::new(),
            evictable_bytes: 0,
            last_ticket: 0,
            stdin_deadlines: BTreeSet::new(),
            last_stdin_holder: 0,
            pending_changes: HashMap::new(),
            commit_waiters: Vec::new(),
            without_submission: HashSet::new(),
            events: EventLog::new(Vec::new(), HashMap::new()),
            metrics: SchedulerMetrics::new(),
            effects: Vec::new(),
            is_shutting_down: false,
            is_restoring: false,
        }
    }

    /// Applies other settings. Launched executions keep theirs.
    pub fn configure(&mut self, settings: SchedulerSettings) {
        self.shares.set_limits(settings.limits());
        self.log_budgets.set_share(settings.log_share);
        self.settings = settings;
        self.evict_surplus();
        self.admit();
    }

    /// Sets which resources the launcher can limit and measure; `None`, as in the beginning: commands have no
    /// cgroups.
    pub fn set_controllers(&mut self, controllers: Option<Controllers>) {
        self.controllers = controllers;
    }

    /// Notes that a launcher is connected, and what it can do.
    pub fn on_launcher_connected(&mut self, abilities: &Abilities) {
        self.has_launcher = true;
        self.set_controllers(abilities.cgroups);
        self.process_defaults = Some(abilities.process);
        self.log_dir = Some(abilities.log_dir);
    }

    /// Notes that there is no launcher. The next one is expected to be able to do the same.
    pub fn on_launcher_disconnected(&mut self) {
        self.has_launcher = false;
    }

    /// Sets the size in bytes of the file system of the logs; `None`, as in the beginning: it is not known, and
    /// logs are not shared out.
    pub fn set_log_capacity(&mut self, capacity: Option<u64>) {
        self.log_budgets.set_capacity(capacity);
    }

    /// Returns the counters.
    pub(crate) fn metrics(&self) -> SchedulerMetrics {
        self.metrics.clone()
    }

    /// Returns the effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Admits pending executions, as long as there are slots for them.
    fn admit(&mut self) {
        // All that is pending when escherd shuts down is about to be cancelled.
        if self.is_restoring || self.is_shutting_down {
            return;
        }
        while let Some(number) = self.shares.admit_next() {
            if self.transition(number, Transition::Admit) == Some(Action::Launch) {
                self.log_step(number, "admitted");
                self.count_launch_attempt(number);
                let change = store::Change::Admitted {
                    number,
                    reads_submission: !self.is_whole_in_memory(number),
                };
                self.commit(change, Vec::new(), OnCommit::Admitted { number });
            }
        }
    }

    /// Returns whether memory has all that a launch needs of an execution.
    fn is_whole_in_memory(&self, number: u64) -> bool {
        let entry = self.entries.get(&number);
        entry.is_some_and(|entry| entry.execution.extent == Extent::Whole)
    }

    fn count_launch_attempt(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.launch_attempts += 1;
        }
    }

    /// Frees the slot of an execution that does not run any longer, or will not.
    fn free_slot(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number) {
            self.shares.free_slot(entry.submitter().uid);
        }
    }

    fn transition(&mut self, number: u64, transition: Transition) -> Option<Action> {
        let entry = self.entries.get_mut(&number)?;
        let was_running = entry.execution.state.is_running();
        match entry.execution.state.apply(transition) {
            Ok(action) => {
                match (was_running, entry.execution.state.is_running()) {
                    (false, true) => self.running += 1,
                    (true, false) => self.running -= 1,
                    _ => {}
                }
                Some(action)
            }
            Err(invalid) => {
                // For example a shim that repeats a message: worth a log line, and harmless.
                let execution = entry.execution.submission.id;
                tracing::error!(%execution, "{invalid}");
                None
            }
        }
    }

    /// Sends a message to the shim of `number`, if it has one. A launch sends what was requested before it
    /// ([`Scheduler::launch`]).
    fn send(&mut self, number: u64, message: ToShim) {
        if let Some(entry) = self.entries.get(&number)
            && entry.launch_phase.accepts_messages()
        {
            let id = entry.execution.submission.id;
            self.effects.push(Effect::Send(id, message));
        }
    }

    /// Launches an admitted execution, and sends its shim what was requested meanwhile. `read` is its submission from
    /// the store, if memory does not have all of it.
    fn launch(&mut self, number: u64, read: Option<&Submission>) {
        let settings = &self.settings;
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let now = Instant::now();
        self.metrics.observe_queue_wait(now - entry.known_since);
        entry.launched_at = Some(now);
        entry.launch_phase = LaunchPhase::Sent;
        let submission = read.unwrap_or(&entry.execution.submission);
        let max_log_bytes = match settings.log_limits.max_bytes {
            0 => u64::MAX,
            max_bytes => max_bytes,
        };
        let uid = submission.submitter.uid;
        let log_budget = self.log_budgets.start(number, uid, max_log_bytes);
        let assignment = crate::execution::assignment(
            submission,
            settings.log_limits,
            log_budget,
            settings.output_limit,
            settings.user_limits_of(uid),
            settings.max_left_of(uid),
        );
        entry.search_path = crate::execution::search_path(&assignment);
        self.effects.push(Effect::Launch(Box::new(assignment)));
        entry.execution.submission.request.inherited = Vec::new();
        self.log_step(number, "launching");
        self.send_pending_requests(number);
    }

    /// Sends a new or adopted shim what was requested for its execution before.
    fn send_pending_requests(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        let cancel = entry.execution.state.cancel_request().cloned();
        let is_followed = entry.progress.is_some();
        let seen = entry.current_progress().log_bytes;
        if is_followed {
            self.send(number, ToShim::Watch { known_bytes: seen });
        }
        self.send_pause(number);
        self.send_usage_question(number);
        self.send_signals(number);
        if let Some(CancelRequest { by, mode }) = cancel {
            self.send(number, ToShim::Cancel { by, mode });
        }
        self.send_input(number);
    }

    /// Logs a step of an execution at the level debug. The steps are those of docs/ARCHITECTURE.md.
    fn log_step(&self, number: u64, step: &'static str) {
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(entry) = self.entries.get(&number)
        {
            tracing::debug!(execution = %entry.execution.submission.id, number, "{step}");
        }
    }

    /// Creates an event of an execution, to be published with the change that is committed with it.
    fn event(
        &mut self,
        number: u64,
        now: Timestamp,
        kind: EventKind,
    ) -> Option<escher_protocol::message::Event> {
        let entry = self.entries.get(&number)?;
        Some(self.events.assign(&entry.execution.submission, now, kind))
    }
}
