//! Removing finished executions.

use escher_protocol::message::{Removed, Selection};
use escher_protocol::{ApiError, Target};

use super::cleanup::{self, REMOVAL_BATCH};
use super::target::ActionResult;
use super::{ExecutionEngine, scheduler_stopped};
use crate::scheduler::Scheduler;

impl ExecutionEngine {
    /// Removes a finished execution: its record and its log. What it has left running is ended first, by the
    /// kill ladder.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `not-finished`; `store-unavailable`; `internal` if what was left does
    /// not end.
    pub async fn remove_execution(&self, target: impl Into<Target>) -> Result<Removed, ApiError> {
        let record = self.get_status(target).await?;
        self.end_left(&record).await?;
        let remove = |scheduler: &mut Scheduler, number| scheduler.remove_one(number);
        let receiver = match self.act_on(record.id.into(), remove).await? {
            ActionResult::Done(receiver) => receiver?,
            ActionResult::OnlyInStore(record) => {
                let number = record.number;
                self.call(move |scheduler, _| scheduler.remove_finished(vec![number]))
                    .await?
            }
        };
        receiver.await.map_err(scheduler_stopped)?
    }

    /// Removes all finished executions of this user that match. Unfinished executions are skipped,
    /// whatever the filter says.
    ///
    /// # Errors
    /// `invalid-request` for a filter that is over a limit; `unknown-user` for one that names nobody;
    /// `internal` if the store cannot be read; `store-unavailable`; `shutting-down`. Some executions may have been removed then, except
    /// after the first.
    pub async fn prune(&self, mut selection: Selection) -> Result<Removed, ApiError> {
        self.ensure_selectable(&selection).await?;
        selection.filter.all = true;
        let mut total = Removed::default();
        let mut next = Some(u64::MAX);
        while let Some(before) = next {
            let submitter = self.scope.submitter().cloned();
            let page = self
                .core
                .store
                .finished_numbers(submitter, selection.clone(), before, REMOVAL_BATCH)
                .await?;
            next = page.next;
            if page.found.is_empty() {
                continue;
            }
            let receiver = self
                .call(move |scheduler, _| scheduler.remove_finished(page.found))
                .await?;
            let removed = receiver.await.map_err(scheduler_stopped)??;
            total.executions += removed.executions;
            total.log_bytes += removed.log_bytes;
        }
        Ok(total)
    }

    /// Counts what [`ExecutionEngine::prune`] would remove.
    ///
    /// # Errors
    /// As there, but nothing is removed.
    pub async fn count_prunable(&self, mut selection: Selection) -> Result<Removed, ApiError> {
        self.ensure_selectable(&selection).await?;
        selection.filter.all = true;
        let mut total = Removed::default();
        let mut next = Some(u64::MAX);
        while let Some(before) = next {
            let submitter = self.scope.submitter().cloned();
            let store = &self.core.store;
            let counted =
                store.count_removable(submitter, selection.clone(), before, REMOVAL_BATCH);
            let (counted, rest) = counted.await?;
            total.executions += counted.executions;
            total.log_bytes += counted.log_bytes;
            next = rest;
        }
        Ok(total)
    }

    /// Cleans up now, over all users: evicts executions from memory whose retention is over, and
    /// removes those beyond the history's limits. If `enable_auto_cleanup` is on, this happens
    /// regularly by itself. Returns what was removed.
    ///
    /// # Errors
    /// `permission-denied` for users other than root and the engine's own; `internal` if the
    /// store cannot be read; `store-unavailable`; `shutting-down`.
    pub async fn cleanup_old_executions(&self) -> Result<Removed, ApiError> {
        let permit = self.authorize_admin()?;
        let settings = self.settings().cleanup;
        cleanup::clean_up(permit, settings, &self.core.scheduler, &self.core.store).await
    }
}
