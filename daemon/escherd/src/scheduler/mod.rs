//! The scheduler: sole owner of what escherd knows of executions that are not over, and of those that ended
//! lately.
//!
//! [`Scheduler`] holds the executions, the queue and the events, and does no I/O: what has to happen outside
//! comes out as [`Effect`]s. One task owns it; everybody else has an [`SchedulerHandle`] and sends it work.
//!
//! Every change of an execution goes to the [`store`], and what must not be forgotten is told,
//! or done, only once its change is on disk ([`persist`]). What a new escherd finds is put together by
//! [`restore`]. Finished executions leave memory after a while ([`evict`]).

mod control;
mod events;
mod evict;
mod handle;
mod lookup;
mod metrics;
#[cfg(test)]
mod model;
mod pause;
mod persist;
mod queries;
mod restore;
mod shim_events;
mod submit;
#[cfg(test)]
pub(crate) mod testbed;

pub use control::{check_signal, not_running};
pub use events::{EventLog, MAX_KEPT_EVENTS};
pub use evict::{NotFinishedError, RemovalAnswer};
pub use handle::{CommitOutcomes, SchedulerHandle, Stopped, start};
pub(crate) use metrics::SchedulerMetrics;
pub use pause::PauseReply;
pub use queries::{Counts, Listed, Progress};
pub use restore::RecoveredState;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use escher_launcher::ipc::wire::{Artifact, Assignment, LogLimits, ToShim};
use escher_protocol::message::{CancelOutcome, EventKind};
use escher_protocol::{
    ApiError, Controllers, ExecutionId, ExecutionRecord, Measurements, Text, Timestamp,
};
use tokio::sync::{oneshot, watch};

use crate::execution::{Action, Event, Execution, RequestLimits};
use crate::store::{self, Durability, RequestDigest};
use evict::Evictable;
use pause::Pause;
use persist::{After, Evidence, Then};
use submit::SubmitReply;

/// The settings that the scheduler keeps to.
#[derive(Debug, Clone)]
pub struct SchedulerSettings {
    /// What bears on a single request.
    pub request: RequestLimits,
    /// Most executions that run at once.
    pub max_concurrent: usize,
    /// Most executions that wait for that.
    pub max_pending: usize,
    /// Most bytes of the requests that wait.
    pub max_pending_bytes: u64,
    /// Most finished executions in memory.
    pub max_in_memory: usize,
    /// Directory of the logs.
    pub log_dir: std::path::PathBuf,
    /// What bounds each log.
    pub log_limits: LogLimits,
    /// Most bytes that a command may write to one stream, where more is to end it; `None`: more ends nothing.
    pub output_limit: Option<u64>,
    /// What a commit outlives.
    pub durability: Durability,
}

/// What has to be done outside the scheduler.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this down.
    Record(Box<store::ChangeEntry>),
    /// Hand this command to a shim.
    Launch(Box<Assignment>),
    /// Send a message to the shim of a launched execution; never a launch.
    Send(ExecutionId, ToShim),
    /// Have the launcher delete what these executions have left on disk.
    Remove(Artifact, Vec<ExecutionId>),
}

/// An execution and those who wait for it.
#[derive(Debug)]
struct Entry {
    execution: Execution,
    /// Bytes of its request.
    weight: u64,
    /// The digest of its request, where that has a key.
    digest: Option<RequestDigest>,
    /// Whether its submission is on disk. Before, it is not there for anybody but its submitter.
    is_recorded: bool,
    /// Since when this scheduler has it.
    known_since: Instant,
    /// When this scheduler has handed it to a shim, if it has.
    launched_at: Option<Instant>,
    /// Whether its shim can be given orders.
    has_shim: bool,
    /// Whether it is stopped, and who wants that changed.
    pause: Pause,
    /// What it has used, once its shim has said so.
    measured: Option<Measurements>,
    /// What testifies to its end, until that is on disk.
    evidence: Evidence,
    /// Whether its end may be told, and was.
    is_told: bool,
    /// Those who wait for its submission to be on disk.
    submitters: Vec<SubmitReply>,
    waiters: Vec<oneshot::Sender<ExecutionRecord>>,
    /// Those who wanted to end it when it was over already, and that might not be told yet.
    late: Vec<oneshot::Sender<Result<CancelOutcome, ApiError>>>,
    /// Made for the first follower.
    progress: Option<watch::Sender<Progress>>,
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    settings: SchedulerSettings,
    /// Which resources the launcher can limit and measure; `None`: commands have no cgroups.
    controllers: Option<Controllers>,
    /// By number: the order of submission.
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<ExecutionId, u64>,
    keys: HashMap<(u32, Text), u64>,
    last_number: u64,
    /// Executions that wait and are on disk.
    queue: BTreeSet<u64>,
    /// Executions that wait and are not on disk yet.
    arriving: usize,
    /// Bytes of the requests of both.
    waiting_bytes: u64,
    /// Executions that were handed to a shim, or are about to be, and are not finished.
    launched: usize,
    /// Finished executions whose end is on disk, in the order in which that was known.
    evictable: VecDeque<Evictable>,
    /// Bytes of their requests.
    evictable_bytes: u64,
    last_ticket: u64,
    /// What is to be done once the change of a ticket is on disk.
    unsettled: HashMap<u64, After>,
    /// Those who wait until all tickets up to one are settled.
    settling: Vec<(u64, oneshot::Sender<()>)>,
    events: EventLog,
    metrics: SchedulerMetrics,
    effects: Vec<Effect>,
    is_shutting_down: bool,
    /// While it is not known of all executions what became of them, none is started.
    is_restoring: bool,
}

impl Scheduler {
    /// A scheduler that knows nothing yet.
    #[must_use]
    pub fn new(settings: SchedulerSettings) -> Self {
        Scheduler {
            settings,
            controllers: None,
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            keys: HashMap::new(),
            last_number: 0,
            queue: BTreeSet::new(),
            arriving: 0,
            waiting_bytes: 0,
            launched: 0,
            evictable: VecDeque::new(),
            evictable_bytes: 0,
            last_ticket: 0,
            unsettled: HashMap::new(),
            settling: Vec::new(),
            events: EventLog::new(Vec::new()),
            metrics: SchedulerMetrics::new(),
            effects: Vec::new(),
            is_shutting_down: false,
            is_restoring: false,
        }
    }

    /// Keeps to other settings from now on. What is launched already keeps what it was given.
    pub fn configure(&mut self, settings: SchedulerSettings) {
        self.settings = settings;
        self.evict_surplus();
        self.admit();
    }

    /// What the launcher says it can limit and measure; `None`: commands have no cgroups. A scheduler that was
    /// told nothing takes it for that.
    pub fn set_controllers(&mut self, controllers: Option<Controllers>) {
        self.controllers = controllers;
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> SchedulerMetrics {
        self.metrics.clone()
    }

    /// What has to be done outside since the last call, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Lets executions start, in the order of submission, while there is room.
    fn admit(&mut self) {
        while !self.is_restoring && self.launched < self.settings.max_concurrent {
            let Some(number) = self.dequeue() else {
                return;
            };
            // What is in the queue is queued: a cancel takes it out.
            if let Some(Action::Launch) = self.transition(number, Event::Admit) {
                self.launched += 1;
                let change = store::Change::Launching { number };
                self.record(change, Vec::new(), Then::Launching { number });
            }
        }
    }

    fn enqueue(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number) {
            self.waiting_bytes += entry.weight;
            self.queue.insert(number);
        }
    }

    fn dequeue(&mut self) -> Option<u64> {
        let number = self.queue.pop_first()?;
        self.leaves_queue(number);
        Some(number)
    }

    fn leaves_queue(&mut self, number: u64) {
        let weight = self.entries.get(&number).map_or(0, |entry| entry.weight);
        self.waiting_bytes -= weight;
    }

    fn transition(&mut self, number: u64, event: Event) -> Option<Action> {
        let entry = self.entries.get_mut(&number)?;
        match entry.execution.state.apply(event) {
            Ok(action) => Some(action),
            Err(impossible) => {
                // A shim that says something twice, say: to be known of, not to stop for.
                let execution = entry.execution.submission.id;
                tracing::error!(%execution, "{impossible}");
                None
            }
        }
    }

    /// Tells the shim of `number` something, if it has one; what is on the way to one is told everything
    /// that counts when it is there ([`Scheduler::launch`]).
    fn send(&mut self, number: u64, message: ToShim) {
        if let Some(entry) = self.entries.get(&number)
            && entry.has_shim
        {
            let id = entry.execution.submission.id;
            self.effects.push(Effect::Send(id, message));
        }
    }

    /// Hands an execution to a shim, with all that was asked of it meanwhile.
    fn launch(&mut self, number: u64) {
        let (log_limits, output_limit) = (self.settings.log_limits, self.settings.output_limit);
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let now = Instant::now();
        self.metrics.observe_queue_wait(now - entry.known_since);
        entry.launched_at = Some(now);
        entry.has_shim = true;
        let submission = &entry.execution.submission;
        let assignment = crate::execution::assignment(submission, log_limits, output_limit);
        self.effects.push(Effect::Launch(Box::new(assignment)));
        entry.execution.stdin.set_shim_ready();
        self.brief(number);
    }

    /// Tells a shim that is new to this escherd what was asked of its execution before.
    fn brief(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        let ending = entry.execution.state.ending().cloned();
        let is_followed = entry.progress.is_some();
        let seen = entry.current_progress().log_bytes;
        if is_followed {
            self.send(number, ToShim::Watch { known_bytes: seen });
        }
        self.send_pause(number);
        if let Some(ending) = ending {
            let crate::execution::Ending { by, kill } = ending;
            self.send(number, ToShim::Cancel { by, kill });
        }
        self.send_input(number);
    }

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
