//! What can be asked about executions in memory.

use std::time::Duration;

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::message::{EventsRequest, Selection};
use escher_protocol::{ApiError, ExecutionId, ExecutionRecord, Resources, Status};
use tokio::sync::{oneshot, watch};

use super::{Entry, Scheduler, events, lookup};
use crate::authz::Scope;

/// How far an execution is, for those who follow its output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of its log that are known to be there.
    pub log_bytes: u64,
    /// Whether there will be no more.
    pub finished: bool,
}

impl Progress {
    /// That of a finished execution.
    #[must_use]
    pub fn of_finished(record: &ExecutionRecord) -> Self {
        let output = record.outcome.as_ref().map(|outcome| outcome.output);
        Progress {
            // A lost execution has no account of its log: what is there is what there is.
            log_bytes: match record.status {
                Status::Lost => u64::MAX,
                _ => output.map_or(0, |output| output.log_bytes),
            },
            finished: true,
        }
    }
}

/// How many executions are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting.
    pub pending: usize,
    /// Running.
    pub running: usize,
    /// Most that run at once.
    pub max_concurrent: usize,
}

/// The executions in memory that were asked for, and all that there are: what the store says of these is
/// not asked for.
#[derive(Debug)]
pub struct Listed {
    /// Those that fit, newest first.
    pub records: Vec<ExecutionRecord>,
    /// The numbers of all, in order.
    pub known: Vec<u64>,
}

impl Scheduler {
    /// What is known about the execution `number`. The answer comes at once, unless its end is on the way
    /// to the disk and may not be told before.
    pub fn status(&mut self, number: u64) -> oneshot::Receiver<ExecutionRecord> {
        self.tell_unless(number, |entry| entry.is_over() && !entry.is_told)
    }

    /// The record of the execution `number` once it is finished.
    pub fn wait(&mut self, number: u64) -> oneshot::Receiver<ExecutionRecord> {
        self.tell_unless(number, |entry| !entry.is_told)
    }

    fn tell_unless(
        &mut self,
        number: u64,
        has_to_wait: impl FnOnce(&Entry) -> bool,
    ) -> oneshot::Receiver<ExecutionRecord> {
        let (sender, receiver) = oneshot::channel();
        if let Some(entry) = self.entries.get_mut(&number) {
            if !has_to_wait(entry) {
                drop(sender.send(entry.record()))
            } else {
                // Those who no longer wait must not pile up.
                entry.waiters.retain(|waiter| !waiter.is_closed());
                entry.waiters.push(sender);
            }
        }
        receiver
    }

    /// The record of the execution `number`, and how far its output is from now on.
    #[must_use]
    pub fn follow(&mut self, number: u64) -> Option<(ExecutionRecord, watch::Receiver<Progress>)> {
        let entry = self.entries.get_mut(&number)?;
        let now = entry.progress_now();
        let progress = entry
            .progress
            .get_or_insert_with(|| watch::Sender::new(now))
            .subscribe();
        Some((entry.record(), progress))
    }

    /// A follower of `id` has read up to `seen` and wants to know of more.
    pub fn want_output(&mut self, id: ExecutionId, seen: u64) {
        if let Some(number) = self.by_number(id)
            && let Some(entry) = self.entries.get(&number)
            && entry.execution.state.is_launched()
            && let Some(progress) = &entry.progress
            && progress.borrow().log_bytes <= seen
        {
            self.order(number, ToShim::Watch { seen });
        }
    }

    /// At most `room` executions that fit, newest first, below the number `before`.
    #[must_use]
    pub fn list(&self, scope: &Scope, selection: &Selection, before: u64, room: usize) -> Listed {
        Listed {
            records: self
                .visible_executions(scope, before)
                .filter(|entry| lookup::matches(&entry.execution, selection))
                .take(room)
                .map(|entry| entry.execution.listed_record(entry.resources()))
                .collect(),
            known: self.entries.range(..before).map(|entry| *entry.0).collect(),
        }
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

    /// The sequence number of the last event of an earlier escherd.
    #[must_use]
    pub fn inherited_events(&self) -> u64 {
        self.events.inherited()
    }

    /// Changes with every event.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.events.watch()
    }

    /// How many executions wait and run.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            pending: self.queue.len() + self.arriving,
            running: self.launched,
            max_concurrent: self.settings.max_concurrent,
        }
    }

    /// For how long the first of those that wait has done so here.
    #[must_use]
    pub fn longest_wait(&self) -> Option<Duration> {
        let entry = self.entries.get(self.queue.first()?)?;
        Some(entry.known_since.elapsed())
    }
}

impl Entry {
    /// Everything known about the execution.
    pub(super) fn record(&self) -> ExecutionRecord {
        self.execution.record(self.resources())
    }

    fn resources(&self) -> Resources {
        let is_over = self.is_over();
        Resources {
            limits: self.execution.submission.request.limits,
            paused: self.pause.is_on() && !is_over,
            // The shim reports them before the end.
            measured: self.measured.filter(|_| is_over),
        }
    }

    /// How far the output is, as far as is known.
    pub(super) fn progress_now(&self) -> Progress {
        match (&self.progress, self.is_told) {
            (_, true) => Progress::of_finished(&self.record()),
            (Some(progress), false) => *progress.borrow(),
            (None, false) => Progress::default(),
        }
    }
}
