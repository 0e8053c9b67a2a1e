//! The clients of the model: what they wait for, and what they were answered.

use std::collections::BTreeMap;

use escher_protocol::message::{CancelAnswer, Submitted};
use escher_protocol::{ApiError, ExecutionId, ExecutionRecord, SignalAnswer, SignalSerial};
use tokio::sync::oneshot::Receiver;

use crate::scheduler::{PauseAnswer, RemovalAnswer};

/// What distinguishes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestKind {
    /// The submitter.
    pub(super) uid: u32,
    pub(super) key: Option<u8>,
    pub(super) is_limited: bool,
    /// Whether it is too large to wait in memory.
    pub(super) is_large: bool,
    /// Whether it inherits the environment of its submitter.
    pub(super) inherits: bool,
}

type PendingSignal = Receiver<Result<SignalAnswer, ApiError>>;

/// Outstanding requests, and answers received.
#[derive(Debug, Default)]
pub(super) struct Clients {
    submits: Vec<(RequestKind, Receiver<Result<Submitted, ApiError>>)>,
    waits: Vec<Receiver<ExecutionRecord>>,
    cancels: Vec<(ExecutionId, Receiver<Result<CancelAnswer, ApiError>>)>,
    removals: Vec<(ExecutionId, RemovalAnswer)>,
    pauses: Vec<(ExecutionId, Receiver<PauseAnswer>)>,
    signals: Vec<(ExecutionId, SignalSerial, PendingSignal)>,
    /// Acknowledged executions, in order.
    pub(super) acknowledged: Vec<(ExecutionId, RequestKind)>,
    /// Records that were returned to waiting clients.
    pub(super) results: Vec<ExecutionRecord>,
    /// Acknowledged cancels.
    pub(super) cancelled: Vec<(ExecutionId, CancelAnswer)>,
    /// Executions whose pause was acknowledged.
    pub(super) paused: Vec<ExecutionId>,
    /// Signals that were acknowledged.
    pub(super) signalled: Vec<(ExecutionId, SignalSerial)>,
    /// Executions whose removal was requested, and whether it was acknowledged.
    pub(super) removed: BTreeMap<ExecutionId, bool>,
}

impl Clients {
    pub(super) fn submit(
        &mut self,
        kind: RequestKind,
        answer: Receiver<Result<Submitted, ApiError>>,
    ) {
        self.submits.push((kind, answer));
    }

    pub(super) fn wait(&mut self, answer: Receiver<ExecutionRecord>) {
        self.waits.push(answer);
    }

    pub(super) fn cancel(
        &mut self,
        id: ExecutionId,
        answer: Receiver<Result<CancelAnswer, ApiError>>,
    ) {
        self.cancels.push((id, answer));
    }

    pub(super) fn remove(&mut self, id: ExecutionId, answer: RemovalAnswer) {
        self.removed.entry(id).or_default();
        self.removals.push((id, answer));
    }

    pub(super) fn pause(&mut self, id: ExecutionId, answer: Receiver<PauseAnswer>) {
        self.pauses.push((id, answer));
    }

    pub(super) fn signal(&mut self, id: ExecutionId, serial: SignalSerial, answer: PendingSignal) {
        self.signals.push((id, serial, answer));
    }

    pub(super) fn known(&self, which: u8) -> Option<ExecutionId> {
        let count = self.acknowledged.len();
        let place = usize::from(which).checked_rem(count)?;
        Some(self.acknowledged[place].0)
    }

    /// Collects the answers that have arrived.
    pub(super) fn receive_answers(&mut self) {
        let (acknowledged, removed) = (&mut self.acknowledged, &mut self.removed);
        self.submits
            .retain_mut(|(kind, answer)| match answer.try_recv() {
                Ok(Ok(submitted)) => {
                    // The same key returns the same execution, unless that was removed, which frees the key.
                    let earlier = acknowledged.iter().find(|(id, other)| {
                        kind.key.is_some() && other == kind && !removed.contains_key(id)
                    });
                    if let Some((id, _)) = earlier {
                        assert_eq!(*id, submitted.id, "one key, one request, two executions");
                    }
                    acknowledged.push((submitted.id, *kind));
                    false
                }
                Ok(Err(_)) => false,
                Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
            });
        let results = &mut self.results;
        self.waits.retain_mut(|answer| match answer.try_recv() {
            Ok(record) => {
                assert!(record.status.is_finished(), "answered before its end");
                results.push(record);
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
        let signalled = &mut self.signalled;
        self.signals
            .retain_mut(|(id, serial, answer)| match answer.try_recv() {
                Ok(Ok(_)) => {
                    signalled.push((*id, *serial));
                    false
                }
                Ok(Err(_)) => false,
                Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
            });
        self.removals
            .retain_mut(|(id, answer)| match answer.try_recv() {
                Ok(Ok(_)) => {
                    removed.insert(*id, true);
                    false
                }
                Ok(Err(_)) => false,
                Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Empty,
            });
    }
}
