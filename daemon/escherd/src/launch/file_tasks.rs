//! The files that the launcher is to delete, or to close to a user: in order, one request at a time.

use std::collections::VecDeque;
use std::time::Duration;

use escher_launcher::ipc::wire::{ExecutionFiles, LauncherRequest, MAX_IDS_AT_ONCE};
use escher_protocol::ExecutionId;
use tokio::time::Instant;

/// Pause before trying again what could not be done.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What the launcher is to do with files of executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileTask {
    /// Delete them.
    Delete(ExecutionFiles),
    /// Take the access to logs from this user.
    RevokeRead { uid: u32 },
}

impl FileTask {
    /// Returns the request that has it done for `ids`.
    pub(super) fn request(self, ids: Vec<ExecutionId>) -> LauncherRequest {
        match self {
            FileTask::Delete(files) => LauncherRequest::DeleteFiles { files, ids },
            FileTask::RevokeRead { uid } => LauncherRequest::RevokeRead { uid, ids },
        }
    }
}

/// A task for at most [`MAX_IDS_AT_ONCE`] executions.
type FileTaskBatch = (FileTask, Vec<ExecutionId>);

/// Queue of tasks.
#[derive(Debug, Default)]
pub(super) struct FileTasks {
    waiting: VecDeque<FileTaskBatch>,
    /// The request that the launcher has not answered.
    requested: Option<FileTaskBatch>,
    failed: Vec<FileTaskBatch>,
    retry_at: Option<Instant>,
}

impl FileTasks {
    pub(super) fn add(&mut self, task: FileTask, ids: Vec<ExecutionId>) {
        if let Some((last, more)) = self.waiting.back_mut()
            && *last == task
            && more.len() + ids.len() <= MAX_IDS_AT_ONCE
        {
            more.extend(ids);
            return;
        }
        for ids in ids.chunks(MAX_IDS_AT_ONCE) {
            self.waiting.push_back((task, ids.to_vec()));
        }
    }

    /// Returns the next request to send, unless the launcher has not answered the last one.
    pub(super) fn next_request(&mut self) -> Option<FileTaskBatch> {
        if self.requested.is_none() {
            self.requested = self.waiting.pop_front();
            self.requested.clone()
        } else {
            None
        }
    }

    /// Handles that the request could not be sent.
    pub(super) fn on_send_failed(&mut self, now: Instant) {
        self.on_done(&[], now);
    }

    /// Handles the launcher's answer; `done` are the executions for which it was done.
    pub(super) fn on_done(&mut self, done: &[ExecutionId], now: Instant) {
        if let Some((task, mut ids)) = self.requested.take() {
            ids.retain(|id| !done.contains(id));
            if !ids.is_empty() {
                self.failed.push((task, ids));
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

    /// Returns when to call [`FileTasks::retry`].
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Queues again what could not be done.
    pub(super) fn retry(&mut self) {
        self.retry_at = None;
        self.waiting.extend(self.failed.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: FileTask = FileTask::Delete(ExecutionFiles::Log);

    fn ids(count: usize) -> Vec<ExecutionId> {
        let id = |index: usize| ExecutionId::from_bytes((index as u128).to_be_bytes());
        (0..count).map(id).collect()
    }

    #[test]
    fn joins_requests_for_the_same_artifact_up_to_the_limit() {
        let claim = FileTask::Delete(ExecutionFiles::Claim { attempt: 1 });
        let revoke = |uid| FileTask::RevokeRead { uid };
        for (added, expected) in [
            (vec![], vec![]),
            (vec![(claim, 0)], vec![]),
            (vec![(claim, 1), (claim, 2)], vec![(claim, 3)]),
            (
                vec![(claim, 1), (LOG, 1), (claim, 1)],
                vec![(claim, 1), (LOG, 1), (claim, 1)],
            ),
            (
                vec![(revoke(1), 1), (revoke(1), 2), (revoke(2), 1)],
                vec![(revoke(1), 3), (revoke(2), 1)],
            ),
            (
                vec![(claim, MAX_IDS_AT_ONCE), (claim, 1)],
                vec![(claim, MAX_IDS_AT_ONCE), (claim, 1)],
            ),
            (
                vec![(claim, MAX_IDS_AT_ONCE + 1)],
                vec![(claim, MAX_IDS_AT_ONCE), (claim, 1)],
            ),
        ] {
            let mut file_tasks = FileTasks::default();
            for (files, count) in added {
                file_tasks.add(files, ids(count));
            }
            let mut requests = Vec::new();
            while let Some((files, requested)) = file_tasks.next_request() {
                assert_eq!(file_tasks.next_request(), None, "one at a time");
                file_tasks.on_done(&requested, Instant::now());
                requests.push((files, requested.len()));
            }
            assert_eq!(requests, expected);
            assert_eq!(file_tasks.retry_at(), None);
        }
    }

    #[test]
    fn retries_after_a_pause_what_was_not_deleted() {
        let now = Instant::now();
        let mut file_tasks = FileTasks::default();
        file_tasks.add(LOG, ids(3));
        assert!(file_tasks.next_request().is_some());
        file_tasks.on_done(&ids(2), now);
        file_tasks.add(LOG, ids(1));
        assert!(file_tasks.next_request().is_some());
        file_tasks.on_send_failed(now + Duration::from_secs(1));
        assert_eq!(file_tasks.next_request(), None);
        assert_eq!(file_tasks.retry_at(), Some(now + RETRY_AFTER));
        file_tasks.retry();
        assert_eq!(file_tasks.retry_at(), None);
        let third = ids(3).split_off(2);
        assert_eq!(file_tasks.next_request(), Some((LOG, third)));
        file_tasks.on_done(&ids(3), now);
        assert_eq!(file_tasks.next_request(), Some((LOG, ids(1))));
    }

    #[test]
    fn repeats_an_unanswered_request_to_the_next_launcher() {
        let mut file_tasks = FileTasks::default();
        file_tasks.add(LOG, ids(2));
        let request = file_tasks.next_request();
        file_tasks.add(
            FileTask::Delete(ExecutionFiles::ExitRecord { attempt: 1 }),
            ids(1),
        );
        file_tasks.on_launcher_disconnected();
        assert_eq!(file_tasks.next_request(), request);
        file_tasks.on_launcher_disconnected();
        file_tasks.on_launcher_disconnected();
        assert_eq!(file_tasks.next_request(), request);
    }
}
