//! The engine: sole owner of what escherd knows.
//!
//! [`Engine`] holds the executions, the queue and the events, and does no I/O: what has to happen outside
//! comes out as [`Effect`]s. One task owns it; everybody else has an [`EngineHandle`] and sends it work.

mod events;
mod handle;
mod lookup;
mod shims;

pub use events::EventLog;
pub use handle::{EngineHandle, Stopped, start};

use std::collections::{BTreeMap, HashMap, VecDeque};

use escher_launcher::wire::{LaunchSpec, ToShim};
use escher_protocol::message::{CancelOutcome, EventKind, EventsRequest, ListFilter, Submitted};
use escher_protocol::{
    ApiError, Blob, CancelMode, Canceller, ErrorCode, ExecutionId, ExecutionRecord,
    ExecutionRequest, Status, Target, Text, Timestamp,
};
use tokio::sync::{oneshot, watch};

use crate::authz::{Scope, SubmitPermit};
use crate::execution::{
    Action, Event, Execution, RequestLimits, State, Stdin, StdinReply, Write, check, launch_spec,
};

/// The settings that the engine keeps to.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// What bears on a single request.
    pub request: RequestLimits,
    /// Most executions that run at once.
    pub max_concurrent: usize,
    /// Most executions that wait for that.
    pub max_pending: usize,
    /// Directory of the logs.
    pub log_dir: std::path::PathBuf,
}

/// What has to be done outside the engine.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Hand this command to a shim.
    Launch(Box<LaunchSpec>),
    /// Tell the shim of a launched execution something; never a launch.
    Order(ExecutionId, ToShim),
}

/// How far an execution is, for those who follow its output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of its log that are known to be there.
    pub log_bytes: u64,
    /// Whether there will be no more.
    pub finished: bool,
}

/// How many executions are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting.
    pub pending: usize,
    /// Running.
    pub running: usize,
    /// Over.
    pub finished: usize,
}

/// An execution and those who wait for it.
#[derive(Debug)]
struct Entry {
    execution: Execution,
    waiters: Vec<oneshot::Sender<ExecutionRecord>>,
    /// Made for the first follower.
    progress: Option<watch::Sender<Progress>>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    /// By number: the order of submission.
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<ExecutionId, u64>,
    keys: HashMap<(u32, Text), u64>,
    last_number: u64,
    queue: VecDeque<u64>,
    /// Executions that were handed to a shim and are not finished.
    launched: usize,
    events: EventLog,
    effects: Vec<Effect>,
    closing: bool,
}

impl Engine {
    /// An engine that knows nothing yet.
    #[must_use]
    pub fn new(settings: EngineSettings) -> Self {
        Engine {
            settings,
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            keys: HashMap::new(),
            last_number: 0,
            queue: VecDeque::new(),
            launched: 0,
            events: EventLog::default(),
            effects: Vec::new(),
            closing: false,
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// What has to be done outside since the last call, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Takes a command on.
    ///
    /// # Errors
    /// Why not: an invalid request, a conflict of keys, a full queue, a daemon about to stop.
    pub fn submit(
        &mut self,
        permit: SubmitPermit,
        request: Box<ExecutionRequest>,
        now: Timestamp,
    ) -> Result<Submitted, ApiError> {
        let (submitter, account) = permit.into_parts();
        let key = request.key.clone().map(|key| (submitter.uid, key));
        if let Some(known) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return self.resubmitted(*known, &request);
        }
        if self.closing {
            let message = "escherd is about to stop and takes no new commands";
            return Err(ApiError::new(ErrorCode::SHUTTING_DOWN, message));
        }
        let checked = check(&request, &self.settings.request)?;
        let max_pending = self.settings.max_pending;
        if self.launched >= self.settings.max_concurrent && self.queue.len() >= max_pending {
            let message = format!("{max_pending} executions are waiting already, as many as may");
            return Err(ApiError::new(ErrorCode::QUEUE_FULL, message)
                .with_hint("try again once some have finished"));
        }
        let id = ExecutionId::generate();
        self.last_number += 1;
        let number = self.last_number;
        let execution = Execution {
            id,
            number,
            stdin: Stdin::new(request.stdin),
            request,
            checked,
            submitter,
            account,
            submitted_at: now,
            log_path: self.log_path(id),
            state: State::Queued,
        };
        self.numbers.insert(id, number);
        self.keys.extend(key.map(|key| (key, number)));
        self.entries.insert(
            number,
            Entry {
                execution,
                waiters: Vec::new(),
                progress: None,
            },
        );
        self.tell(number, now, EventKind::Submitted);
        self.queue.push_back(number);
        self.admit();
        Ok(Submitted {
            id,
            number,
            existing: false,
        })
    }

    /// A request whose key is known: the same execution, if it is the same request.
    fn resubmitted(&self, number: u64, request: &ExecutionRequest) -> Result<Submitted, ApiError> {
        match self.entries.get(&number) {
            Some(entry) if *entry.execution.request == *request => Ok(Submitted {
                id: entry.execution.id,
                number,
                existing: true,
            }),
            _ => {
                let key = request.key.as_deref().unwrap_or_default();
                let message = format!(
                    "the key {key:?} belongs to execution {number}, which was another request"
                );
                Err(ApiError::new(ErrorCode::KEY_CONFLICT, message)
                    .with_hint("use a new key for a new command"))
            }
        }
    }

    fn log_path(&self, id: ExecutionId) -> Blob {
        let path = self.settings.log_dir.join(format!("{id}.log"));
        path.into_os_string().into()
    }

    /// Lets executions start, in the order of submission, while there is room.
    fn admit(&mut self) {
        while self.launched < self.settings.max_concurrent {
            let Some(number) = self.queue.pop_front() else {
                return;
            };
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            // What is in the queue is queued: a cancel takes it out.
            if let Ok(Action::Launch) = entry.execution.state.apply(Event::Admit) {
                self.launched += 1;
                let spec = launch_spec(&entry.execution);
                self.effects.push(Effect::Launch(Box::new(spec)));
                if entry.progress.is_some() {
                    // Somebody has been waiting for output since before there was a shim to ask.
                    let order = ToShim::Watch { seen: 0 };
                    self.effects.push(Effect::Order(entry.execution.id, order));
                }
                entry.execution.stdin.open();
                self.feed(number);
            }
        }
    }

    /// What is known about `target`.
    ///
    /// # Errors
    /// When there is no such execution in `scope`, or several.
    pub fn status(&self, scope: &Scope, target: &Target) -> Result<ExecutionRecord, ApiError> {
        Ok(self.entry(scope, target)?.1.execution.record())
    }

    /// The record of `target` once it is finished.
    ///
    /// # Errors
    /// As [`Engine::status`].
    pub fn wait(
        &mut self,
        scope: &Scope,
        target: &Target,
    ) -> Result<oneshot::Receiver<ExecutionRecord>, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let entry = self.entry_mut(scope, target)?.1;
        match entry.execution.state.status().is_finished() {
            true => drop(sender.send(entry.execution.record())),
            false => {
                // Those who no longer wait must not pile up.
                entry.waiters.retain(|waiter| !waiter.is_closed());
                entry.waiters.push(sender);
            }
        }
        Ok(receiver)
    }

    /// The record of `target`, and how far its output is from now on.
    ///
    /// # Errors
    /// As [`Engine::status`].
    pub fn follow(
        &mut self,
        scope: &Scope,
        target: &Target,
    ) -> Result<(ExecutionRecord, watch::Receiver<Progress>), ApiError> {
        let entry = self.entry_mut(scope, target)?.1;
        let now = entry.progress_now();
        let progress = entry
            .progress
            .get_or_insert_with(|| watch::Sender::new(now));
        Ok((entry.execution.record(), progress.subscribe()))
    }

    /// A follower of `id` has read up to `seen` and wants to know of more.
    pub fn want_output(&mut self, id: ExecutionId, seen: u64) {
        if let Some(entry) = self.launched_entry(id)
            && let Some(progress) = &entry.progress
            && progress.borrow().log_bytes <= seen
        {
            self.effects.push(Effect::Order(id, ToShim::Watch { seen }));
        }
    }

    /// Ends `target`.
    ///
    /// # Errors
    /// As [`Engine::status`].
    pub fn cancel(
        &mut self,
        scope: &Scope,
        target: &Target,
        mode: CancelMode,
        now: Timestamp,
    ) -> Result<CancelOutcome, ApiError> {
        let number = self.entry(scope, target)?.0;
        Ok(self.cancel_number(number, scope.canceller(), mode, now))
    }

    fn cancel_number(
        &mut self,
        number: u64,
        by: Canceller,
        mode: CancelMode,
        at: Timestamp,
    ) -> CancelOutcome {
        let event = Event::Cancel {
            by: by.clone(),
            mode,
            at,
        };
        let reply = match self.transition(number, event) {
            Some(Action::Reply(reply)) => reply,
            Some(Action::End { by, kill, reply }) => {
                if let Some(entry) = self.entries.get(&number) {
                    let order = ToShim::Cancel { by, kill };
                    self.effects.push(Effect::Order(entry.execution.id, order));
                }
                reply
            }
            // A cancel is possible in every state and has no other action.
            _ => CancelOutcome::AlreadyEnding,
        };
        match reply {
            CancelOutcome::Ending => self.tell(number, at, EventKind::CancelRequested(by)),
            CancelOutcome::Withdrawn => {
                self.queue.retain(|queued| *queued != number);
                self.tell(number, at, EventKind::CancelRequested(by));
                self.finished(number, at);
            }
            CancelOutcome::AlreadyEnding | CancelOutcome::AlreadyFinished(_) => {}
        }
        reply
    }

    /// Sends a signal to the main process of `target`.
    ///
    /// # Errors
    /// As [`Engine::status`]; `not-running`; `invalid-request` for a number that is no signal.
    pub fn signal(&mut self, scope: &Scope, target: &Target, signal: i32) -> Result<(), ApiError> {
        let execution = &self.entry(scope, target)?.1.execution;
        let id = execution.id;
        if !(1..=MAX_SIGNAL).contains(&signal) {
            let message = format!("{signal} is no signal: they go from 1 to {MAX_SIGNAL}");
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        match execution.state {
            State::Launching { .. } | State::Running { .. } => {
                let order = ToShim::Signal { signal };
                self.effects.push(Effect::Order(id, order));
                Ok(())
            }
            _ => {
                let message = format!(
                    "execution {} is {}",
                    execution.number,
                    execution.state.status()
                );
                Err(ApiError::new(ErrorCode::NOT_RUNNING, message))
            }
        }
    }

    /// Writes to the standard input of `target`. The reply comes once the shim has the bytes.
    ///
    /// # Errors
    /// As [`Engine::status`].
    pub fn write_stdin(
        &mut self,
        scope: &Scope,
        target: &Target,
        write: Write,
    ) -> Result<oneshot::Receiver<StdinReply>, ApiError> {
        let (number, entry) = self.entry_mut(scope, target)?;
        let (sender, receiver) = oneshot::channel();
        if let Err((reply, sender)) = entry.execution.stdin.write(write, sender) {
            let _ = sender.send(reply);
        }
        self.feed(number);
        Ok(receiver)
    }

    fn feed(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let id = entry.execution.id;
        while let Some(Write { data, end, .. }) = entry.execution.stdin.next_to_send() {
            let input = ToShim::Input { data, end };
            self.effects.push(Effect::Order(id, input));
        }
    }

    /// At most `room` executions that fit, newest first, below the number `before`.
    #[must_use]
    pub fn list(
        &self,
        scope: &Scope,
        filter: &ListFilter,
        before: u64,
        room: usize,
    ) -> Vec<ExecutionRecord> {
        self.entries
            .range(..before)
            .rev()
            .map(|(_, entry)| &entry.execution)
            .filter(|execution| {
                scope.includes(&execution.submitter) && lookup::matches(execution, filter)
            })
            .take(room)
            .map(Execution::listed_record)
            .collect()
    }

    /// At most `room` events that `request` wants and escherd still has.
    ///
    /// # Errors
    /// `events-missed` when some after the wanted place are gone.
    pub fn events(
        &self,
        scope: &Scope,
        request: &EventsRequest,
        room: usize,
    ) -> Result<events::Page, ApiError> {
        self.events.page(scope, request.after, room)
    }

    /// Changes with every event.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.events.watch()
    }

    /// How many executions are in which state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            pending: self.queue.len(),
            ..Counts::default()
        };
        counts.running = self.launched;
        counts.finished = self.entries.len() - counts.pending - counts.running;
        counts
    }

    /// Takes no new commands from now on, and ends all that there are.
    pub fn close(&mut self, now: Timestamp) {
        self.closing = true;
        let unfinished: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.execution.state.status().is_finished())
            .map(|(number, _)| *number)
            .collect();
        for number in unfinished {
            self.cancel_number(number, Canceller::Host, CancelMode::Graceful, now);
        }
    }

    fn transition(&mut self, number: u64, event: Event) -> Option<Action> {
        let entry = self.entries.get_mut(&number)?;
        match entry.execution.state.apply(event) {
            Ok(action) => Some(action),
            Err(impossible) => {
                // A shim that says something twice, say: to be known of, not to stop for.
                tracing::error!(execution = %entry.execution.id, "{impossible}");
                None
            }
        }
    }

    pub(super) fn tell(&mut self, number: u64, time: Timestamp, kind: EventKind) {
        if let Some(entry) = self.entries.get(&number) {
            self.events.push(&entry.execution, time, kind);
        }
    }

    fn launched_entry(&self, id: ExecutionId) -> Option<&Entry> {
        let entry = self.entries.get(self.numbers.get(&id)?)?;
        match entry.execution.state {
            State::Launching { .. } | State::Running { .. } => Some(entry),
            _ => None,
        }
    }
}

impl Entry {
    /// How far the output is, as far as is known.
    fn progress_now(&self) -> Progress {
        match (self.execution.state.end(), &self.progress) {
            (Some(end), _) => Progress {
                // A lost execution has no account of its log: what is there is what there is.
                log_bytes: match end.status {
                    Status::Lost => u64::MAX,
                    _ => end.outcome.output.log_bytes,
                },
                finished: true,
            },
            (None, Some(progress)) => *progress.borrow(),
            (None, None) => Progress::default(),
        }
    }
}

/// The highest number of a signal (signal(7)).
const MAX_SIGNAL: i32 = 64;
