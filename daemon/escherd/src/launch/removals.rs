//! What the launcher is to delete, in order, one request at a time.

use std::collections::VecDeque;
use std::time::Duration;

use escher_launcher::ipc::wire::{Artifact, MAX_REMOVED_AT_ONCE};
use escher_protocol::ExecutionId;
use tokio::time::Instant;
use tracing::warn;

use super::launcher::Connection;

/// Pause before what could not be deleted is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Removals {
    waiting: VecDeque<(Artifact, Vec<ExecutionId>)>,
    /// What the launcher was asked for and has not answered.
    asked: Option<(Artifact, Vec<ExecutionId>)>,
    failed: Vec<(Artifact, Vec<ExecutionId>)>,
    retry_at: Option<Instant>,
}

impl Removals {
    pub(super) fn add(&mut self, remains: Artifact, ids: Vec<ExecutionId>) {
        if let Some((last, more)) = self.waiting.back_mut()
            && *last == remains
            && more.len() + ids.len() <= MAX_REMOVED_AT_ONCE
        {
            more.extend(ids);
            return;
        }
        for ids in ids.chunks(MAX_REMOVED_AT_ONCE) {
            self.waiting.push_back((remains, ids.to_vec()));
        }
    }

    /// Asks for the next, if the launcher has answered the last.
    pub(super) fn send_next(&mut self, connection: &Connection) {
        if self.asked.is_some() || connection.version() < 2 {
            return;
        }
        if let Some((remains, ids)) = self.waiting.pop_front() {
            match connection.remove(remains, ids.clone()) {
                Ok(()) => self.asked = Some((remains, ids)),
                Err(error) => {
                    warn!(%error, "the launcher takes no order");
                    self.fail(remains, ids);
                }
            }
        }
    }

    /// The launcher has answered.
    pub(super) fn answered(&mut self, removed: &[ExecutionId]) {
        if let Some((remains, mut ids)) = self.asked.take() {
            ids.retain(|id| !removed.contains(id));
            if !ids.is_empty() {
                self.fail(remains, ids);
            }
        }
    }

    /// There is another launcher, which was not asked.
    pub(super) fn ask_again(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.waiting.push_front(asked);
        }
    }

    /// When to call [`Removals::retry`].
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(super) fn retry(&mut self) {
        self.retry_at = None;
        self.waiting.extend(std::mem::take(&mut self.failed));
    }

    fn fail(&mut self, remains: Artifact, ids: Vec<ExecutionId>) {
        self.failed.push((remains, ids));
        self.retry_at
            .get_or_insert_with(|| Instant::now() + RETRY_AFTER);
    }
}
