//! Pausing and resuming executions.

use escher_protocol::{ApiError, Target};

use super::locate::Place;
use super::{ExecutionEngine, stopping};
use crate::scheduler::{self, Scheduler};

impl ExecutionEngine {
    /// Stops everything that an execution runs, until it is resumed or ended. Its timeout goes on. Returns once it is
    /// stopped, at once if it was already.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`], `not-running`, and `cannot-pause` where its command has no cgroup.
    pub async fn pause(&self, target: impl Into<Target>) -> Result<(), ApiError> {
        self.set_paused(target.into(), true).await
    }

    /// Lets a paused execution go on. Returns once it does.
    ///
    /// # Errors
    /// As [`ExecutionEngine::pause`].
    pub async fn resume(&self, target: impl Into<Target>) -> Result<(), ApiError> {
        self.set_paused(target.into(), false).await
    }

    async fn set_paused(&self, target: Target, paused: bool) -> Result<(), ApiError> {
        let pause = move |engine: &mut Scheduler, number| engine.pause(number, paused);
        match self.at(target, pause).await? {
            Place::Scheduler(reply) => reply.await.map_err(stopping)?,
            Place::Store(record) => Err(scheduler::not_running(record.number, record.status)),
        }
    }
}
