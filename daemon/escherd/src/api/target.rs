//! Acting on the execution that a target names.
//!
//! The scheduler has the executions that are not finished, and those that finished lately; the
//! store has the others. Finding an execution in the scheduler and acting on it is one step there,
//! so that the execution cannot leave memory in between.

use escher_protocol::{ApiError, ErrorCode, ExecutionRecord, Target};

use super::ExecutionEngine;
use crate::authz::Scope;
use crate::execution::check_target;
use crate::scheduler::Scheduler;

/// What came of an action on the execution that a target names.
pub(super) enum ActionResult<R> {
    /// The scheduler has the execution and has done the action, with this result.
    Done(R),
    /// The store alone has the execution, which is finished; nothing was done.
    OnlyInStore(Box<ExecutionRecord>),
}

impl ExecutionEngine {
    /// Has the scheduler do `action` on the execution that `target` names, if the scheduler has it;
    /// otherwise returns the store's record.
    ///
    /// # Errors
    /// `not-found` and `ambiguous`; `invalid-request` for a reference that is too long; `internal`
    /// if the store cannot be read; `shutting-down`.
    pub(super) async fn act_on<R: Send + 'static>(
        &self,
        target: Target,
        action: impl FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    ) -> Result<ActionResult<R>, ApiError> {
        check_target(&target)?;
        let (target, action) = match self.try_in_scheduler(target, action).await? {
            Ok(result) => return Ok(ActionResult::Done(result)),
            Err(not_done) => not_done,
        };
        let store = &self.core.store;
        let found = store.find(self.scope.submitter(), &target).await?;
        let found = found.ok_or_else(|| not_found(&target))?;
        if let Some(record) = found.record {
            return Ok(ActionResult::OnlyInStore(record));
        }
        // A name or a part of an id that belongs to an unfinished execution.
        match self.try_in_scheduler(found.id.into(), action).await? {
            Ok(result) => Ok(ActionResult::Done(result)),
            // It has ended and left memory in the meantime.
            Err((id, _)) => {
                let found = store.find(self.scope.submitter(), &id).await?;
                let record = found.and_then(|found| found.record);
                let record = record.ok_or_else(|| not_found(&target))?;
                Ok(ActionResult::OnlyInStore(record))
            }
        }
    }

    /// Returns the result of `action`, or both arguments if the scheduler does not have the
    /// execution.
    async fn try_in_scheduler<R, A>(
        &self,
        target: Target,
        action: A,
    ) -> Result<Result<R, (Target, A)>, ApiError>
    where
        R: Send + 'static,
        A: FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    {
        self.call(move |scheduler: &mut Scheduler, scope: &Scope| {
            match scheduler.find(scope, &target) {
                Some(number) => Ok(action(scheduler, number)),
                None => Err((target, action)),
            }
        })
        .await
    }
}

fn not_found(target: &Target) -> ApiError {
    let message = format!("there is no execution {:?}", target.to_string());
    ApiError::new(ErrorCode::NOT_FOUND, message).with_hint("escherctl ps -a lists yours")
}
