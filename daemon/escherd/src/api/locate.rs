//! Finding the execution that a target names.
//!
//! The scheduler has the executions that are not finished, and those that finished lately; the
//! store has the others.

use escher_protocol::{ApiError, ErrorCode, ExecutionRecord, Target};

use super::ExecutionEngine;
use crate::authz::Scope;
use crate::scheduler::Scheduler;

/// Where an execution was found.
pub(super) enum Located<R> {
    /// In the scheduler, with the result of the work there.
    InScheduler(R),
    /// In the store alone: it is finished and has left memory.
    InStore(Box<ExecutionRecord>),
}

impl ExecutionEngine {
    /// Has the scheduler do `work` on the execution that `target` names, if the scheduler has it;
    /// otherwise returns the store's record.
    ///
    /// # Errors
    /// `not-found` and `ambiguous`; `internal` if the store cannot be read; `shutting-down`.
    pub(super) async fn locate<R: Send + 'static>(
        &self,
        target: Target,
        work: impl FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    ) -> Result<Located<R>, ApiError> {
        let (target, work) = match self.try_scheduler(target, work).await? {
            Ok(result) => return Ok(Located::InScheduler(result)),
            Err(unused) => unused,
        };
        let store = &self.core.store;
        let found = store.find(self.scope.submitter(), &target).await?;
        let found = found.ok_or_else(|| not_found(&target))?;
        if let Some(record) = found.record {
            return Ok(Located::InStore(record));
        }
        // A name or a part of an id that belongs to an unfinished execution.
        match self.try_scheduler(found.id.into(), work).await? {
            Ok(result) => Ok(Located::InScheduler(result)),
            // It has ended and left memory in the meantime.
            Err((id, _)) => {
                let found = store.find(self.scope.submitter(), &id).await?;
                let record = found.and_then(|found| found.record);
                let record = record.ok_or_else(|| not_found(&target))?;
                Ok(Located::InStore(record))
            }
        }
    }

    /// Returns the result of `work`, or both arguments if the scheduler does not have the
    /// execution.
    async fn try_scheduler<R, W>(
        &self,
        target: Target,
        work: W,
    ) -> Result<Result<R, (Target, W)>, ApiError>
    where
        R: Send + 'static,
        W: FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    {
        self.call(move |scheduler: &mut Scheduler, scope: &Scope| {
            match scheduler.find(scope, &target) {
                Some(number) => Ok(work(scheduler, number)),
                None => Err((target, work)),
            }
        })
        .await
    }
}

fn not_found(target: &Target) -> ApiError {
    let message = format!("there is no execution {:?}", target.to_string());
    ApiError::new(ErrorCode::NOT_FOUND, message).with_hint("escherctl ps -a lists yours")
}
