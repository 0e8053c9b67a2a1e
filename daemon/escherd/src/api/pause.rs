//! Pausing and resuming executions.

use escher_protocol::{ApiError, Target};

use super::control_log::ControlAction;
use super::target::ActionResult;
use super::{ExecutionEngine, scheduler_stopped};
use crate::scheduler::{self, Scheduler};

impl ExecutionEngine {
    /// Stops all processes of an execution until it is resumed or ended. Its timeout still runs.
    /// Returns once they are stopped.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `not-running`; `cannot-pause` if the command
    /// has no cgroup.
    pub async fn pause(&self, target: impl Into<Target>) -> Result<(), ApiError> {
        self.set_paused(target.into(), true).await
    }

    /// Continues a paused execution. Returns once its processes run again.
    ///
    /// # Errors
    /// As [`ExecutionEngine::pause`].
    pub async fn resume(&self, target: impl Into<Target>) -> Result<(), ApiError> {
        self.set_paused(target.into(), false).await
    }

    async fn set_paused(&self, target: Target, paused: bool) -> Result<(), ApiError> {
        let pause =
            move |scheduler: &mut Scheduler, number| (number, scheduler.pause(number, paused));
        match self.act_on(target, pause).await? {
            ActionResult::Done((number, receiver)) => {
                receiver.await.map_err(scheduler_stopped)??;
                let action = if paused {
                    ControlAction::Pause
                } else {
                    ControlAction::Resume
                };
                self.log_control(number, action).await;
                Ok(())
            }
            ActionResult::OnlyInStore(record) => {
                Err(scheduler::not_running(record.number, record.status))
            }
        }
    }
}
