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
    pub(super) fn add(&mut self, artifact: Artifact, ids: Vec<ExecutionId>) {
        if let Some((last, more)) = self.waiting.back_mut()
            && *last == artifact
            && more.len() + ids.len() <= MAX_REMOVED_AT_ONCE
        {
            more.extend(ids);
            return;
        }
        for ids in ids.chunks(MAX_REMOVED_AT_ONCE) {
            self.waiting.push_back((artifact, ids.to_vec()));
        }
    }

    /// Asks for the next, if the launcher has answered the last.
    pub(super) fn send_next(&mut self, connection: &Connection) {
        if self.asked.is_some() {
            return;
        }
        if let Some((artifact, ids)) = self.waiting.pop_front() {
            match connection.remove(artifact, ids.clone()) {
                Ok(()) => self.asked = Some((artifact, ids)),
                Err(error) => {
                    warn!(%error, "the launcher takes no order");
                    self.fail(artifact, ids);
                }
            }
        }
    }

    /// The launcher has answered.
    pub(super) fn answered(&mut self, removed: &[ExecutionId]) {
        if let Some((artifact, mut ids)) = self.asked.take() {
            ids.retain(|id| !removed.contains(id));
            if !ids.is_empty() {
                self.fail(artifact, ids);
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

    fn fail(&mut self, artifact: Artifact, ids: Vec<ExecutionId>) {
        self.failed.push((artifact, ids));
        self.retry_at
            .get_or_insert_with(|| Instant::now() + RETRY_AFTER);
    }
}
