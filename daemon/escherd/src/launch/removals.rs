//! The files that the launcher is to delete, in order, one request at a time.

use std::collections::VecDeque;
use std::time::Duration;

use escher_launcher::ipc::wire::{ExecutionFiles, MAX_DELETED_AT_ONCE};
use escher_protocol::ExecutionId;
use tokio::time::Instant;

/// Pause before deleting again what could not be deleted.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Files of one kind, of at most [`MAX_DELETED_AT_ONCE`] executions.
type Removal = (ExecutionFiles, Vec<ExecutionId>);

/// Queue of files to delete.
#[derive(Debug, Default)]
pub(super) struct Removals {
    waiting: VecDeque<Removal>,
    /// The request that the launcher has not answered.
    requested: Option<Removal>,
    failed: Vec<Removal>,
    retry_at: Option<Instant>,
}

impl Removals {
    pub(super) fn add(&mut self, files: ExecutionFiles, ids: Vec<ExecutionId>) {
        if let Some((last, more)) = self.waiting.back_mut()
            && *last == files
            && more.len() + ids.len() <= MAX_DELETED_AT_ONCE
        {
            more.extend(ids);
            return;
        }
        for ids in ids.chunks(MAX_DELETED_AT_ONCE) {
            self.waiting.push_back((files, ids.to_vec()));
        }
    }

    /// Returns the next request to send, unless the launcher has not answered the last one.
    pub(super) fn next_request(&mut self) -> Option<Removal> {
        if self.requested.is_none() {
            self.requested = self.waiting.pop_front();
            self.requested.clone()
        } else {
            None
        }
    }

    /// Handles that the request could not be sent.
    pub(super) fn on_send_failed(&mut self, now: Instant) {
        self.on_removed(&[], now);
    }

    /// Handles the launcher's answer; `removed` are the executions without such files.
    pub(super) fn on_removed(&mut self, removed: &[ExecutionId], now: Instant) {
        if let Some((files, mut ids)) = self.requested.take() {
            ids.retain(|id| !removed.contains(id));
            if !ids.is_empty() {
                self.failed.push((files, ids));
                self.retry_at.get_or_insert(now + RETRY_AFTER);
            }
        }
    }

    /// Handles the loss of the launcher: the next one gets the request again.
    pub(super) fn on_launcher_disconnected(&mut self) {
        if let Some(unanswered) = self.requested.take() {
            self.waiting.push_front(unanswered);
        }
    }

    /// Returns when to call [`Removals::retry`].
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Queues again what could not be deleted.
    pub(super) fn retry(&mut self) {
        self.retry_at = None;
        self.waiting.extend(self.failed.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<ExecutionId> {
        let id = |index: usize| ExecutionId::from_bytes((index as u128).to_be_bytes());
        (0..count).map(id).collect()
    }

    #[test]
    fn joins_requests_for_the_same_artifact_up_to_the_limit() {
        let claim = ExecutionFiles::Claim { attempt: 1 };
        for (added, expected) in [
            (vec![], vec![]),
            (vec![(claim, 0)], vec![]),
            (vec![(claim, 1), (claim, 2)], vec![(claim, 3)]),
            (
                vec![(claim, 1), (ExecutionFiles::Log, 1), (claim, 1)],
                vec![(claim, 1), (ExecutionFiles::Log, 1), (claim, 1)],
            ),
            (
                vec![(claim, MAX_DELETED_AT_ONCE), (claim, 1)],
                vec![(claim, MAX_DELETED_AT_ONCE), (claim, 1)],
            ),
            (
                vec![(claim, MAX_DELETED_AT_ONCE + 1)],
                vec![(claim, MAX_DELETED_AT_ONCE), (claim, 1)],
            ),
        ] {
            let mut removals = Removals::default();
            for (files, count) in added {
                removals.add(files, ids(count));
            }
            let mut requests = Vec::new();
            while let Some((files, requested)) = removals.next_request() {
                assert_eq!(removals.next_request(), None, "one at a time");
                removals.on_removed(&requested, Instant::now());
                requests.push((files, requested.len()));
            }
            assert_eq!(requests, expected);
            assert_eq!(removals.retry_at(), None);
        }
    }

    #[test]
    fn retries_after_a_pause_what_was_not_deleted() {
        let now = Instant::now();
        let mut removals = Removals::default();
        removals.add(ExecutionFiles::Log, ids(3));
        assert!(removals.next_request().is_some());
        removals.on_removed(&ids(2), now);
        removals.add(ExecutionFiles::Log, ids(1));
        assert!(removals.next_request().is_some());
        removals.on_send_failed(now + Duration::from_secs(1));
        assert_eq!(removals.next_request(), None);
        assert_eq!(removals.retry_at(), Some(now + RETRY_AFTER));
        removals.retry();
        assert_eq!(removals.retry_at(), None);
        let third = ids(3).split_off(2);
        assert_eq!(removals.next_request(), Some((ExecutionFiles::Log, third)));
        removals.on_removed(&ids(3), now);
        assert_eq!(removals.next_request(), Some((ExecutionFiles::Log, ids(1))));
    }

    #[test]
    fn repeats_an_unanswered_request_to_the_next_launcher() {
        let mut removals = Removals::default();
        removals.add(ExecutionFiles::Log, ids(2));
        let request = removals.next_request();
        removals.add(ExecutionFiles::ExitRecord { attempt: 1 }, ids(1));
        removals.on_launcher_disconnected();
        assert_eq!(removals.next_request(), request);
        removals.on_launcher_disconnected();
        removals.on_launcher_disconnected();
        assert_eq!(removals.next_request(), request);
    }
}
