//! Forgetting finished executions.

use escher_protocol::message::{Removed, Selection};
use escher_protocol::{ApiError, Target};

use super::place::Place;
use super::{Call, stopping};
use crate::engine::Engine;

/// Executions that are forgotten in one go.
pub(crate) const FORGET_AT_ONCE: usize = 1000;

impl Call<'_> {
    pub(super) async fn remove(&self, target: Target) -> Result<Removed, ApiError> {
        let forget = |engine: &mut Engine, number| engine.forget_one(number);
        let removed = match self.at(target, forget).await? {
            Place::Engine(forgotten) => forgotten?,
            Place::Store(record) => {
                let number = record.number;
                self.engine(move |engine, _| engine.forget(vec![number]))
                    .await?
            }
        };
        removed.await.map_err(stopping)?
    }

    pub(super) async fn prune(&self, mut selection: Selection) -> Result<Removed, ApiError> {
        // Finished ones are what it is about, whether that is said or not.
        selection.filter.all = true;
        let mut removed = Removed::default();
        let mut before = u64::MAX;
        loop {
            let of = self.scope.submitter();
            let page =
                self.service
                    .store
                    .finished_numbers(of, selection.clone(), before, FORGET_AT_ONCE);
            let page = page.await?;
            let Some(last) = page.last().copied() else {
                return Ok(removed);
            };
            before = last;
            let forgotten = self.engine(move |engine, _| engine.forget(page)).await?;
            let forgotten = forgotten.await.map_err(stopping)??;
            removed.executions += forgotten.executions;
            removed.log_bytes += forgotten.log_bytes;
        }
    }
}
