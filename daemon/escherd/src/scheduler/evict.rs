//! Eviction of finished executions from memory, and removal of executions altogether.

use std::time::Duration;

use escher_launcher::ipc::wire::ExecutionFiles;
use escher_protocol::message::Removed;
use escher_protocol::{ApiError, ErrorCode, ExecutionId, Timestamp};
use tokio::sync::oneshot;

use super::persist::OnCommit;
use super::{Effect, Entry, Scheduler};
use crate::execution::Extent;
use crate::store::Change;

/// Most bytes of the requests of finished executions in memory, which may have long command lines.
const MAX_EVICTABLE_BYTES: u64 = 64 * 1024 * 1024;

/// A finished execution in memory whose end the database has. It may have been removed since.
#[derive(Debug)]
pub(super) struct Evictable {
    pub(super) number: u64,
    since: Timestamp,
    request_bytes: u64,
}

/// Receives the answer to a removal: what was removed, or that the store cannot be written.
pub type RemovalAnswer = oneshot::Receiver<Result<Removed, ApiError>>;

/// The error for removing an execution that has not finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("execution {number} is {status}: only finished executions can be removed")]
pub struct NotFinishedError {
    number: u64,
    status: escher_protocol::Status,
}

impl From<NotFinishedError> for ApiError {
    fn from(error: NotFinishedError) -> Self {
        ApiError::new(ErrorCode::NOT_FINISHED, error.to_string()).with_hint(format!(
            "cancel it first: escherctl cancel {}",
            error.number
        ))
    }
}

impl Scheduler {
    /// Notes that a finished execution may be evicted, because the database has its end.
    pub(super) fn make_evictable(&mut self, number: u64, now: Timestamp) {
        let entry = self.entries.get(&number);
        // A shortened one takes next to nothing.
        let whole = entry.filter(|entry| entry.execution.extent == Extent::Whole);
        let request_bytes = whole.map_or(0, |entry| entry.request_bytes);
        self.evictable_bytes += request_bytes;
        self.evictable.push_back(Evictable {
            number,
            since: now,
            request_bytes,
        });
        self.evict_surplus();
    }

    /// Evicts the oldest finished executions beyond the limits of memory.
    pub(super) fn evict_surplus(&mut self) {
        while self.evictable.len() > self.settings.max_in_memory
            || self.evictable_bytes > MAX_EVICTABLE_BYTES
        {
            self.evict_oldest();
        }
    }

    /// Evicts the executions that ended longer than `retention` ago.
    pub fn evict(&mut self, retention: Duration, now: Timestamp) {
        while let Some(oldest) = self.evictable.front()
            && oldest.since.saturating_add(retention) <= now
        {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        if let Some(Evictable {
            number,
            request_bytes,
            ..
        }) = self.evictable.pop_front()
        {
            self.evictable_bytes -= request_bytes;
            self.drop_entry(number);
        }
    }

    /// Removes an execution from memory.
    pub(super) fn drop_entry(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        let submission = &entry.execution.submission;
        self.numbers.remove(&submission.id);
        if let Some(key) = &submission.request.key {
            let key = (submission.submitter.clone(), key.clone());
            if self.keys.get(&key) == Some(&number) {
                self.keys.remove(&key);
            }
        }
        Some(entry)
    }

    /// Removes one finished execution with its record and its log.
    ///
    /// # Errors
    /// If it is not finished.
    pub fn remove_one(&mut self, number: u64) -> Result<RemovalAnswer, NotFinishedError> {
        match self.entries.get(&number) {
            Some(entry) if !entry.is_over() => Err(NotFinishedError {
                number,
                status: entry.execution.state.status(),
            }),
            _ => Ok(self.remove_finished(vec![number])),
        }
    }

    /// Removes these executions, except those that are not finished.
    pub fn remove_finished(&mut self, mut numbers: Vec<u64>) -> RemovalAnswer {
        numbers.retain(|number| self.entries.get(number).is_none_or(Entry::is_over));
        let (responder, answer) = oneshot::channel();
        // They leave memory after the commit: until then the end of one may not be committed itself.
        let on_commit = OnCommit::Removed {
            numbers: numbers.clone(),
            responder: Some(responder),
        };
        self.commit(Change::Removed { numbers }, Vec::new(), on_commit);
        answer
    }

    /// Removes the logs of these executions, except those that are not finished. Their records stay and
    /// say so.
    pub fn remove_logs(&mut self, mut numbers: Vec<u64>) -> RemovalAnswer {
        numbers.retain(|number| self.entries.get(number).is_none_or(Entry::is_over));
        let (responder, answer) = oneshot::channel();
        // They leave memory after the commit: the record that says so is in the store.
        let on_commit = OnCommit::Removed {
            numbers: numbers.clone(),
            responder: Some(responder),
        };
        self.commit(Change::LogsRemoved { numbers }, Vec::new(), on_commit);
        answer
    }

    /// Takes the access to the logs of these executions from the user `uid`, which has another owner now.
    pub fn revoke_read(&mut self, uid: u32, ids: Vec<ExecutionId>) {
        self.effects.push(Effect::RevokeRead { uid, ids });
    }

    /// Handles the report of the launcher that it has deleted files of these executions.
    pub fn on_deleted(&mut self, files: ExecutionFiles, ids: Vec<ExecutionId>) {
        if files == ExecutionFiles::Log {
            self.commit(Change::LogsDeleted { ids }, Vec::new(), OnCommit::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Scope;
    use crate::scheduler::testbed::{self, at, commit, settings};
    use escher_protocol::{CancelMode, ResourceLimits};

    fn submit(scheduler: &mut Scheduler) -> u64 {
        testbed::submit(scheduler, ResourceLimits::default(), None).unwrap()
    }

    /// Submits an execution and cancels it before its start, at `now`.
    fn finish(scheduler: &mut Scheduler, now: Timestamp) -> u64 {
        let number = submit(scheduler);
        drop(scheduler.cancel(&Scope::for_root(), number, CancelMode::Graceful, now));
        commit(scheduler, now);
        number
    }

    fn in_memory(scheduler: &Scheduler) -> Vec<u64> {
        scheduler.entries.keys().copied().collect()
    }

    #[test]
    fn evicts_the_oldest_finished_first_and_never_an_unfinished_execution() {
        let mut scheduler = Scheduler::new(settings(2));
        let (running, pending) = (submit(&mut scheduler), submit(&mut scheduler));
        let finished: Vec<u64> = (1..=3)
            .map(|second| finish(&mut scheduler, at(second)))
            .collect();
        assert_eq!(
            in_memory(&scheduler),
            [running, pending, finished[1], finished[2]]
        );
        scheduler.configure(settings(1));
        assert_eq!(in_memory(&scheduler), [running, pending, finished[2]]);
        scheduler.configure(settings(0));
        finish(&mut scheduler, at(4));
        assert_eq!(in_memory(&scheduler), [running, pending]);
    }

    #[test]
    fn evicts_finished_executions_after_the_retention_time() {
        const RETENTION: Duration = Duration::from_secs(10);
        let mut scheduler = Scheduler::new(settings(100));
        let running = submit(&mut scheduler);
        let first = finish(&mut scheduler, at(1));
        let second = finish(&mut scheduler, at(2));
        let just_before = Timestamp::from_micros(at(11).as_micros() - 1);
        scheduler.evict(RETENTION, just_before);
        assert_eq!(in_memory(&scheduler), [running, first, second]);
        scheduler.evict(RETENTION, at(11));
        assert_eq!(in_memory(&scheduler), [running, second]);
        scheduler.evict(RETENTION, at(1_000_000));
        assert_eq!(in_memory(&scheduler), [running]);
    }
}
