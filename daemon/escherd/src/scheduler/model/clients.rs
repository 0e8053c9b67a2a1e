//! The clients of the model: what they were told.

use std::collections::BTreeMap;

use escher_protocol::message::{CancelOutcome, Submitted};
use escher_protocol::{ApiError, ExecutionId, ExecutionRecord};
use tokio::sync::oneshot::Receiver;

use crate::scheduler::{PauseReply, RemovalAnswer};

/// The key of a request, and whether it comes with a limit.
pub(super) type Asked = (Option<u8>, bool);

/// What clients wait for, and what they know.
#[derive(Debug, Default)]
pub(super) struct Clients {
    submits: Vec<(Asked, Receiver<Result<Submitted, ApiError>>)>,
    waits: Vec<Receiver<ExecutionRecord>>,
    cancels: Vec<(ExecutionId, Receiver<Result<CancelOutcome, ApiError>>)>,
    forgets: Vec<(ExecutionId, RemovalAnswer)>,
    pauses: Vec<(ExecutionId, Receiver<PauseReply>)>,
    /// Acknowledged executions, in the order of that.
    pub(super) acknowledged: Vec<(ExecutionId, Asked)>,
    /// Results that were told.
    pub(super) told: Vec<ExecutionRecord>,
    /// Cancels that were acknowledged.
    pub(super) cancelled: Vec<(ExecutionId, CancelOutcome)>,
    /// Those that are paused, as clients were told.
    pub(super) paused: Vec<ExecutionId>,
    /// Those of which the removal was asked for, and whether that was acknowledged.
    pub(super) forgotten: BTreeMap<ExecutionId, bool>,
}

impl Clients {
    pub(super) fn submit(&mut self, asked: Asked, answer: Receiver<Result<Submitted, ApiError>>) {
        self.submits.push((asked, answer));
    }

    pub(super) fn wait(&mut self, answer: Receiver<ExecutionRecord>) {
        self.waits.push(answer);
    }

    pub(super) fn cancel(
        &mut self,
        id: ExecutionId,
        answer: Receiver<Result<CancelOutcome, ApiError>>,
    ) {
        self.cancels.push((id, answer));
    }

    pub(super) fn forget(&mut self, id: ExecutionId, answer: RemovalAnswer) {
        self.forgotten.entry(id).or_default();
        self.forgets.push((id, answer));
    }

    pub(super) fn pause(&mut self, id: ExecutionId, answer: Receiver<PauseReply>) {
        self.pauses.push((id, answer));
    }

    pub(super) fn known(&self, which: u8) -> Option<ExecutionId> {
        let count = self.acknowledged.len();
        let place = usize::from(which).checked_rem(count)?;
        Some(self.acknowledged[place].0)
    }

    /// Takes the answers that have come.
    pub(super) fn listen(&mut self) {
        let (acknowledged, forgotten) = (&mut self.acknowledged, &mut self.forgotten);
        self.submits
            .retain_mut(|(asked, answer)| match answer.try_recv() {
                Ok(Ok(submitted)) => {
                    // With a key: the same, unless the first was forgotten, which gives the key back.
                    let earlier = acknowledged.iter().find(|(id, other)| {
                        asked.0.is_some() && other == asked && !forgotten.contains_key(id)
                    });
                    if let Some((id, _)) = earlier {
                        assert_eq!(*id, submitted.id, "one key, one request, two executions");
                    }
                    acknowledged.push((submitted.id, *asked));
                    false
                }
                Ok(Err(_)) => false,
                Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
            });
        let told = &mut self.told;
        self.waits.retain_mut(|answer| match answer.try_recv() {
            Ok(record) => {
                assert!(record.status.is_finished(), "told before its end");
                told.push(record);
                false
            }
            Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
        });
        let cancelled = &mut self.cancelled;
        self.cancels
            .retain_mut(|(id, answer)| match answer.try_recv() {
                Ok(Ok(outcome)) => {
                    cancelled.push((*id, outcome));
                    false
                }
                Ok(Err(_)) => false,
                Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
            });
        let paused = &mut self.paused;
        self.pauses
            .retain_mut(|(id, answer)| match answer.try_recv() {
                Ok(Ok(())) => {
                    paused.push(*id);
                    false
                }
                Ok(Err(_)) => false,
                Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
            });
        self.forgets
            .retain_mut(|(id, answer)| match answer.try_recv() {
                Ok(Ok(_)) => {
                    forgotten.insert(*id, true);
                    false
                }
                Ok(Err(_)) => false,
                Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
            });
    }
}
