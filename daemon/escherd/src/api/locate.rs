//! Where an execution is to be found.
//!
//! One that is not over, or not for long, the engine has; the others the store has. Nobody who asks need
//! care.

use escher_protocol::{ApiError, ErrorCode, ExecutionRecord, Target};

use super::ExecutionEngine;
use crate::authz::Scope;
use crate::scheduler::Scheduler;

/// What came of looking for an execution.
pub(super) enum Place<R> {
    /// The engine has it; this is what the work there has given.
    Scheduler(R),
    /// It is finished and has left memory.
    Store(Box<ExecutionRecord>),
}

impl ExecutionEngine {
    /// Has the engine do `work` on the execution that `target` means, if it has that; else returns what the
    /// store knows of it.
    ///
    /// # Errors
    /// `not-found`, `ambiguous`, or a store that cannot be read.
    pub(super) async fn at<R: Send + 'static>(
        &self,
        target: Target,
        work: impl FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    ) -> Result<Place<R>, ApiError> {
        let (target, work) = match self.try_engine(target, work).await? {
            Ok(result) => return Ok(Place::Scheduler(result)),
            Err(back) => back,
        };
        let store = &self.core.store;
        let found = store.find(self.scope.submitter(), &target).await?;
        let found = found.ok_or_else(|| not_found(&target))?;
        if let Some(record) = found.record {
            return Ok(Place::Store(record));
        }
        // A name or a part of an id that means one which is not over.
        match self.try_engine(found.id.into(), work).await? {
            Ok(result) => Ok(Place::Scheduler(result)),
            // It has ended and left memory in this very moment.
            Err((id, _)) => {
                let found = store.find(self.scope.submitter(), &id).await?;
                let record = found.and_then(|found| found.record);
                record.map(Place::Store).ok_or_else(|| not_found(&target))
            }
        }
    }

    /// The result of `work`, or both back where the engine does not have the execution.
    async fn try_engine<R, W>(
        &self,
        target: Target,
        work: W,
    ) -> Result<Result<R, (Target, W)>, ApiError>
    where
        R: Send + 'static,
        W: FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    {
        self.ask(
            move |engine: &mut Scheduler, scope: &Scope| match engine.find(scope, &target) {
                Some(number) => Ok(work(engine, number)),
                None => Err((target, work)),
            },
        )
        .await
    }
}

pub(super) fn not_found(target: &Target) -> ApiError {
    let message = format!("there is no execution {:?}", target.to_string());
    ApiError::new(ErrorCode::NOT_FOUND, message).with_hint("escherctl ps -a lists yours")
}
