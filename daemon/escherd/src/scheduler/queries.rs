//! Queries about executions in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::message::{EventFilter, EventsStart, Quota, Selection};
use escher_protocol::{
    ApiError, ExecutionId, ExecutionRecord, QueuePosition, Resources, Status, User, WaitReason,
};
use tokio::sync::{oneshot, watch};

use super::waiters::add_waiter;
use super::{Entry, Scheduler, events};
use crate::authz::Scope;
use crate::execution::{Execution, MAX_PAGE_BYTES, Matcher, State, memory_of};

/// How far the output of an execution is, for its followers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputProgress {
    /// Bytes that are known to be in its log.
    pub log_bytes: u64,
    /// Bytes that were not written to it; `None` while that is not known, and where it never will be.
    pub dropped_bytes: Option<u64>,
    /// Whether no more will come.
    pub finished: bool,
}

impl OutputProgress {
    /// Returns the progress of a finished execution.
    #[must_use]
    pub fn for_finished(record: &ExecutionRecord) -> Self {
        let output = record.outcome.as_ref().map(|outcome| outcome.output);
        let output = output.unwrap_or_default();
        // Lost executions have no byte count, and what was left may have written since: read the log to its end.
        let is_known = record.status != Status::Lost && output.reserved_bytes == 0;
        let (log_bytes, dropped_bytes) = if is_known {
            (output.log_bytes, Some(output.dropped_bytes))
        } else {
            (u64::MAX, None)
        };
        OutputProgress {
            log_bytes,
            dropped_bytes,
            finished: true,
        }
    }
}

/// Executions that a page of a list examines at most, by simple conditions.
pub(super) const MAX_EXAMINED: usize = 1024;

/// Numbers of executions by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pending executions: those in the queue, and those that have a slot and wait for a shim.
    pub pending: usize,
    /// Running executions.
    pub running: usize,
    /// Most executions that may run at once.
    pub max_concurrent: usize,
}

/// The matching executions in memory, of a range of numbers, and the numbers of all in memory, which the store must
/// not list again.
#[derive(Debug)]
pub struct Listed {
    /// The matching executions, newest first. There may be none although there are more pages.
    pub records: Vec<ExecutionRecord>,
    /// The lowest number of the range; the next page has executions with lower ones. `None`: the range includes all
    /// lower numbers.
    pub next: Option<u64>,
    /// The numbers of all executions of the range that are in memory, in order.
    pub in_memory: Vec<u64>,
}

impl Scheduler {
    /// Returns the record of the execution `number`: at once, unless its end is not committed yet.
    pub fn status(&mut self, number: u64) -> oneshot::Receiver<ExecutionRecord> {
        self.answer_later_if(number, |entry| entry.is_over() && !entry.is_end_reported)
    }

    /// Returns everything known about an execution and what it waits for.
    fn current_record(&self, entry: &Entry) -> ExecutionRecord {
        ExecutionRecord {
            waits_for: self.wait_reason(&entry.execution, || self.queue_position(entry)),
            ..entry.record()
        }
    }

    fn queue_position(&self, entry: &Entry) -> Option<QueuePosition> {
        let submission = &entry.execution.submission;
        self.shares
            .position(submission.submitter.uid, submission.number)
    }

    /// Returns what an execution waits for, if it is not about to start. `position` is where it is in the queue.
    fn wait_reason(
        &self,
        execution: &Execution,
        position: impl FnOnce() -> Option<QueuePosition>,
    ) -> Option<WaitReason> {
        match execution.state {
            State::Queued | State::Admitted { .. } if !self.has_launcher => {
                Some(WaitReason::Launcher)
            }
            State::Queued => Some(WaitReason::Slot(position())),
            State::Admitted { .. } | State::Running { .. } | State::Finished(_) => None,
        }
    }

    /// Returns the record of the execution `number` once it has finished.
    pub fn wait(&mut self, number: u64) -> oneshot::Receiver<ExecutionRecord> {
        self.answer_later_if(number, |entry| !entry.is_end_reported)
    }

    fn answer_later_if(
        &mut self,
        number: u64,
        must_wait: impl FnOnce(&Entry) -> bool,
    ) -> oneshot::Receiver<ExecutionRecord> {
        let (sender, receiver) = oneshot::channel();
        match self.entries.get_mut(&number) {
            Some(entry) if must_wait(entry) => add_waiter(&mut entry.waiters, sender),
            Some(_) => {
                let entry = &self.entries[&number];
                let _ = sender.send(self.current_record(entry));
            }
            None => {}
        }
        receiver
    }

    /// Returns the record of the execution `number` and a watch of its progress.
    #[must_use]
    pub fn subscribe_progress(
        &mut self,
        number: u64,
    ) -> Option<(ExecutionRecord, watch::Receiver<OutputProgress>)> {
        let entry = self.entries.get_mut(&number)?;
        let now = entry.current_progress();
        let progress = entry
            .progress
            .get_or_insert_with(|| watch::Sender::new(now))
            .subscribe();
        Some((entry.record(), progress))
    }

    /// Asks the shim of `id` to report when its log has grown beyond `seen` bytes.
    pub fn watch_output(&mut self, id: ExecutionId, seen: u64) {
        if let Some(number) = self.number_of(id)
            && let Some(entry) = self.entries.get(&number)
            && entry.execution.state.has_slot()
            && let Some(progress) = &entry.progress
            && progress.borrow().log_bytes <= seen
        {
            self.send(number, ToShim::Watch { known_bytes: seen });
        }
    }

    /// Returns the next executions that match, newest first, below the number `before`; at most
    /// `limit`. A page examines a bounded number of executions, so that nothing else waits for long,
    /// and has a bounded size.
    #[must_use]
    pub fn list(&self, scope: &Scope, selection: &Selection, before: u64, limit: usize) -> Listed {
        let matcher = Matcher::new(selection);
        let mut page = Listed {
            records: Vec::new(),
            next: None,
            in_memory: Vec::new(),
        };
        let (mut bytes, mut examined) = (0, 0);
        for (number, entry) in self.entries.range(..before).rev() {
            let is_visible = entry.is_visible_in(scope);
            examined += 1 + if is_visible { matcher.effort() } else { 0 };
            if is_visible && matcher.matches(&entry.execution) {
                let record = ExecutionRecord {
                    // The position of each would cost too much.
                    waits_for: self.wait_reason(&entry.execution, || None),
                    ..entry.execution.listed_record(entry.resources())
                };
                bytes += memory_of(&record);
                page.records.push(record);
            }
            let is_full = page.records.len() >= limit || bytes >= MAX_PAGE_BYTES;
            if is_full || examined >= MAX_EXAMINED {
                page.next = Some(*number);
                break;
            }
        }
        let range = page.next.unwrap_or(0)..before;
        page.in_memory = self.entries.range(range).map(|entry| *entry.0).collect();
        page
    }

    /// Returns the sequence number after which the events lie that are requested.
    #[must_use]
    pub fn events_start(&self, scope: &Scope, start: EventsStart, filter: &EventFilter) -> u64 {
        self.events.position(scope, start, filter)
    }

    /// Returns at most `limit` events after the sequence number `after`.
    ///
    /// # Errors
    /// `events-missed` if events after `after` are no longer kept.
    pub fn events(
        &self,
        scope: &Scope,
        after: u64,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<events::EventPage, ApiError> {
        self.events.page(scope, after, filter, limit)
    }

    /// Returns the sequence number of the last event.
    #[must_use]
    pub fn last_event(&self) -> u64 {
        *self.events.watch().borrow()
    }

    /// Returns the sequence number of the last event of an earlier escherd.
    #[must_use]
    pub fn last_earlier_event(&self) -> u64 {
        self.events.last_earlier()
    }

    /// Returns a watch that changes with every event.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.events.watch()
    }

    /// Returns how many executions are pending and running.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            pending: self.shares.pending() + self.shares.used_slots() - self.running,
            running: self.running,
            max_concurrent: self.settings.max_concurrent,
        }
    }

    /// Returns the running executions, in the order of submission.
    pub fn running(&self) -> impl Iterator<Item = &Execution> {
        let executions = self.entries.values().map(|entry| &entry.execution);
        executions.filter(|execution| execution.state.is_running())
    }

    /// Returns what `user` takes of the queue, the slots and the disk of the logs, and may take.
    #[must_use]
    pub fn quota(&self, user: User) -> Quota {
        let uid = user.uid;
        Quota {
            log_disk_bytes: self.log_budgets.used(uid),
            max_log_disk_bytes: self.log_budgets.limit(uid),
            ..self.shares.quota(user)
        }
    }

    /// Does the same for `users` and all who take anything, in the order of their uids.
    #[must_use]
    pub fn quotas(&self, users: impl IntoIterator<Item = User>) -> Vec<Quota> {
        let mut users: BTreeSet<User> = users.into_iter().collect();
        users.extend(self.shares.users());
        users.into_iter().map(|user| self.quota(user)).collect()
    }

    /// Returns how long the oldest execution in the queue has waited in this escherd.
    #[must_use]
    pub fn longest_wait(&self) -> Option<Duration> {
        let entry = self.entries.get(&self.shares.oldest_eligible()?)?;
        Some(entry.known_since.elapsed())
    }
}

impl Entry {
    /// Returns everything known about the execution.
    pub(super) fn record(&self) -> ExecutionRecord {
        self.execution.record(self.resources())
    }

    fn resources(&self) -> Resources {
        let is_over = self.is_over();
        Resources {
            limits: self.execution.submission.request.limits,
            process: self.execution.submission.request.process.clone(),
            paused: self.pause.is_paused() && !is_over,
            // They come with the exit report, which may not be reported yet.
            measured: self.measured.filter(|_| is_over),
        }
    }

    /// Returns the known progress of the output.
    pub(super) fn current_progress(&self) -> OutputProgress {
        match (&self.progress, self.is_end_reported) {
            (_, true) => OutputProgress::for_finished(&self.record()),
            (Some(progress), false) => *progress.borrow(),
            (None, false) => OutputProgress::default(),
        }
    }
}
