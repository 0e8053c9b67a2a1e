//! What leaves memory, and what is forgotten altogether.

use std::time::Duration;

use escher_launcher::ipc::wire::Artifact;
use escher_protocol::message::Removed;
use escher_protocol::{ApiError, ErrorCode, ExecutionId, Timestamp};
use tokio::sync::oneshot;

use super::persist::Then;
use super::{Entry, Scheduler};
use crate::store::Change;

/// Most bytes of the requests of finished executions in memory: there may be many with long command lines.
const MAX_RETIRED_BYTES: u64 = 64 * 1024 * 1024;

/// A finished execution in memory whose end is on disk. It may have been forgotten since.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) number: u64,
    since: Timestamp,
    weight: u64,
}

/// What was forgotten.
pub type Forgotten = Removed;

/// The answer to come: what was forgotten, or that it cannot be now.
pub type ForgetAnswer = oneshot::Receiver<Result<Forgotten, ApiError>>;

/// An execution that cannot be forgotten, for it is not over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("execution {number} is {status}: only finished executions can be removed")]
pub struct ForgetError {
    number: u64,
    status: escher_protocol::Status,
}

impl From<ForgetError> for ApiError {
    fn from(error: ForgetError) -> Self {
        ApiError::new(ErrorCode::NOT_FINISHED, error.to_string())
            .with_hint(format!("escherctl cancel {} ends it", error.number))
    }
}

impl Scheduler {
    /// A finished execution whose end is on disk need not be in memory any more.
    pub(super) fn retire(&mut self, number: u64, now: Timestamp) {
        let weight = self.entries.get(&number).map_or(0, |entry| entry.weight);
        self.retired_bytes += weight;
        self.retired.push_back(Retired {
            number,
            since: now,
            weight,
        });
        self.evict_surplus();
    }

    /// Has the oldest leave memory that are too many for it.
    pub(super) fn evict_surplus(&mut self) {
        while self.retired.len() > self.settings.max_in_memory
            || self.retired_bytes > MAX_RETIRED_BYTES
        {
            self.evict_oldest();
        }
    }

    /// Has those leave memory that have been there for longer than `retention` since their end.
    pub fn evict(&mut self, retention: Duration, now: Timestamp) {
        while let Some(oldest) = self.retired.front()
            && oldest.since.saturating_add(retention) <= now
        {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        if let Some(Retired { number, weight, .. }) = self.retired.pop_front() {
            self.retired_bytes -= weight;
            self.drop_entry(number);
        }
    }

    /// Takes an execution out of memory.
    pub(super) fn drop_entry(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        let submission = &entry.execution.submission;
        self.numbers.remove(&submission.id);
        if let Some(key) = &submission.request.key {
            let key = (submission.submitter.uid, key.clone());
            if self.keys.get(&key) == Some(&number) {
                self.keys.remove(&key);
            }
        }
        Some(entry)
    }

    /// Forgets a finished execution that is in memory: it, its record and its log.
    ///
    /// # Errors
    /// When it is not finished.
    pub fn forget_one(&mut self, number: u64) -> Result<ForgetAnswer, ForgetError> {
        match self.entries.get(&number) {
            Some(entry) if !entry.is_over() => Err(ForgetError {
                number,
                status: entry.execution.state.status(),
            }),
            _ => Ok(self.forget(vec![number])),
        }
    }

    /// Forgets these, but for what is not finished.
    pub fn forget(&mut self, mut numbers: Vec<u64>) -> ForgetAnswer {
        numbers.retain(|number| self.entries.get(number).is_none_or(Entry::is_over));
        let (reply, forgotten) = oneshot::channel();
        // They leave memory once it is done: until then the end of one may be on its way to the disk.
        let then = Then::Removed {
            numbers: numbers.clone(),
            reply: Some(reply),
        };
        self.record(Change::Removed { numbers }, Vec::new(), then);
        forgotten
    }

    /// The launcher has deleted what these have left on disk.
    pub fn deleted(&mut self, remains: Artifact, ids: Vec<ExecutionId>) {
        if remains == Artifact::Log {
            self.record(Change::LogsDeleted { ids }, Vec::new(), Then::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Scope;
    use crate::scheduler::testbed::{self, at, commit, settings};
    use escher_protocol::{CancelMode, ResourceLimits};

    fn submit(engine: &mut Scheduler) -> u64 {
        testbed::submit(engine, ResourceLimits::default(), None).unwrap()
    }

    /// One that is over at `now`: it was withdrawn.
    fn finish(engine: &mut Scheduler, now: Timestamp) -> u64 {
        let number = submit(engine);
        drop(engine.cancel(&Scope::for_root(), number, CancelMode::Graceful, now));
        commit(engine, now);
        number
    }

    fn in_memory(engine: &Scheduler) -> Vec<u64> {
        engine.entries.keys().copied().collect()
    }

    #[test]
    fn the_oldest_finished_ones_leave_first_and_what_is_not_over_never_does() {
        let mut engine = Scheduler::new(settings(2));
        let (running, pending) = (submit(&mut engine), submit(&mut engine));
        let finished: Vec<u64> = (1..=3)
            .map(|second| finish(&mut engine, at(second)))
            .collect();
        assert_eq!(
            in_memory(&engine),
            [running, pending, finished[1], finished[2]]
        );
        engine.configure(settings(1));
        assert_eq!(in_memory(&engine), [running, pending, finished[2]]);
        engine.configure(settings(0));
        finish(&mut engine, at(4));
        assert_eq!(in_memory(&engine), [running, pending]);
    }

    #[test]
    fn finished_ones_leave_once_they_have_been_there_for_so_long() {
        const RETENTION: Duration = Duration::from_secs(10);
        let mut engine = Scheduler::new(settings(100));
        let running = submit(&mut engine);
        let first = finish(&mut engine, at(1));
        let second = finish(&mut engine, at(2));
        let just_before = Timestamp::from_micros(at(11).as_micros() - 1);
        engine.evict(RETENTION, just_before);
        assert_eq!(in_memory(&engine), [running, first, second]);
        engine.evict(RETENTION, at(11));
        assert_eq!(in_memory(&engine), [running, second]);
        engine.evict(RETENTION, at(1_000_000));
        assert_eq!(in_memory(&engine), [running]);
    }
}
