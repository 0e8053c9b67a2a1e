//! What running executions use at the moment.

use std::time::Duration;

use escher_protocol::{ApiError, CurrentUsage, ErrorCode, Target};
use tokio::time::timeout;

use super::target::ActionResult;
use super::{ExecutionEngine, scheduler_stopped};
use crate::scheduler::{self, Scheduler};

/// How long a shim may take to measure. It does so between two pieces of output, so that only a disk that hangs
/// delays it.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(2);

impl ExecutionEngine {
    /// Measures what a running execution uses at the moment: nothing is measured unless somebody asks. A figure is
    /// missing where nothing counts it, and all are if the command has no cgroup.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `not-running` before its start and after its end; `overloaded` if its shim
    /// does not answer in two seconds.
    pub async fn measure_usage(&self, target: impl Into<Target>) -> Result<CurrentUsage, ApiError> {
        let measure = |scheduler: &mut Scheduler, number| (number, scheduler.measure_usage(number));
        match self.act_on(target.into(), measure).await? {
            ActionResult::Done((number, answer)) => match timeout(MEASURE_TIMEOUT, answer).await {
                Ok(answer) => answer.map_err(scheduler_stopped)?,
                Err(_) => Err(not_answered(number)),
            },
            ActionResult::OnlyInStore(record) => {
                Err(scheduler::not_running(record.number, record.status))
            }
        }
    }
}

fn not_answered(number: u64) -> ApiError {
    let seconds = MEASURE_TIMEOUT.as_secs();
    let message = format!("the shim of execution {number} has not answered for {seconds} seconds");
    ApiError::new(ErrorCode::OVERLOADED, message).with_hint("try again later")
}
