//! Forgetting finished executions.

use escher_protocol::message::{Removed, Selection};
use escher_protocol::{ApiError, Target};

use super::cleanup::{self, REMOVAL_BATCH};
use super::locate::Place;
use super::{ExecutionEngine, stopping};
use crate::scheduler::Scheduler;

impl ExecutionEngine {
    /// Forgets a finished execution: its record and its log.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `not-finished`; a store that cannot be written.
    pub async fn remove_execution(&self, target: impl Into<Target>) -> Result<Removed, ApiError> {
        let forget = |engine: &mut Scheduler, number| engine.remove_one(number);
        let removed = match self.at(target.into(), forget).await? {
            Place::Scheduler(forgotten) => forgotten?,
            Place::Store(record) => {
                let number = record.number;
                self.ask(move |engine, _| engine.remove_finished(vec![number]))
                    .await?
            }
        };
        removed.await.map_err(stopping)?
    }

    /// Forgets all finished executions of this user that fit; one that is not finished is passed over, whatever
    /// the filter says.
    ///
    /// # Errors
    /// A store that cannot be read or written.
    pub async fn prune(&self, mut selection: Selection) -> Result<Removed, ApiError> {
        // Finished ones are what it is about, whether that is said or not.
        selection.filter.all = true;
        let mut removed = Removed::default();
        let mut before = u64::MAX;
        loop {
            let of = self.scope.submitter();
            let store = &self.core.store;
            let page = store.finished_numbers(of, selection.clone(), before, REMOVAL_BATCH);
            let page = page.await?;
            let Some(last) = page.last().copied() else {
                return Ok(removed);
            };
            before = last;
            let forgotten = self
                .ask(move |engine, _| engine.remove_finished(page))
                .await?;
            let forgotten = forgotten.await.map_err(stopping)??;
            removed.executions += forgotten.executions;
            removed.log_bytes += forgotten.log_bytes;
        }
    }

    /// Cleans up now what the settings say need not be kept, in memory and altogether, whoever has submitted it,
    /// as happens by itself where `enable_auto_cleanup` is on. Tells what was forgotten altogether.
    ///
    /// # Errors
    /// `permission-denied` to all but root and the engine's own user; a store that cannot be read or written.
    pub async fn cleanup_old_executions(&self) -> Result<Removed, ApiError> {
        let permit = self.administer()?;
        let settings = self.settings().cleanup;
        cleanup::clean_up(permit, settings, &self.core.engine, &self.core.store).await
    }
}
