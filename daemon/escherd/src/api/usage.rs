//! What running executions use at the moment.

use std::collections::VecDeque;
use std::time::Duration;

use escher_protocol::{ApiError, CurrentUsage, ErrorCode, ExecutionUsage, Target};
use tokio::time::{Instant, timeout, timeout_at};

use super::target::ActionResult;
use super::{ExecutionEngine, scheduler_stopped};
use crate::scheduler::{self, Scheduler, UsageQuestion};

/// How long a shim may take to measure. It does so between two pieces of output, so that only a disk that hangs
/// delays it.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of shims that are asked at once for one caller.
const MAX_PAGE_QUESTIONS: usize = 64;

/// What the running executions of a caller use, the newest first.
#[derive(Debug)]
pub struct RunningUsages {
    engine: ExecutionEngine,
    /// The questions that shims were asked.
    page: VecDeque<UsageQuestion>,
    /// When their answers are no longer waited for.
    deadline: Instant,
    /// The number below which the next page begins; `None` after the last page, or an error.
    before: Option<u64>,
}

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

impl ExecutionEngine {
    /// Measures what the running executions of this user use at the moment; for root, those of all users.
    #[must_use]
    pub fn measure_running(&self) -> RunningUsages {
        RunningUsages {
            engine: self.clone(),
            page: VecDeque::new(),
            deadline: Instant::now(),
            before: Some(u64::MAX),
        }
    }
}

impl RunningUsages {
    /// Returns the next execution with what it uses; `None` at the end. What has ended meanwhile is left out, and so
    /// is an execution whose shim does not answer in two seconds. Nothing comes after an error, which is
    /// `shutting-down`.
    pub async fn next(&mut self) -> Option<Result<ExecutionUsage, ApiError>> {
        loop {
            let Some(UsageQuestion { id, number, answer }) = self.page.pop_front() else {
                let before = self.before.take()?;
                match self.ask(before).await {
                    Ok(()) => continue,
                    Err(error) => return Some(Err(error)),
                }
            };
            if let Ok(Ok(Ok(usage))) = timeout_at(self.deadline, answer).await {
                return Some(Ok(ExecutionUsage { id, number, usage }));
            }
        }
    }

    /// Asks the shims of the next page, all at once.
    async fn ask(&mut self, before: u64) -> Result<(), ApiError> {
        let page = self
            .engine
            .call(move |scheduler, scope| {
                scheduler.measure_running(scope, before, MAX_PAGE_QUESTIONS)
            })
            .await?;
        self.page = page.questions.into();
        self.before = page.next;
        self.deadline = Instant::now() + MEASURE_TIMEOUT;
        Ok(())
    }
}

fn not_answered(number: u64) -> ApiError {
    let seconds = MEASURE_TIMEOUT.as_secs();
    let message = format!("the shim of execution {number} has not answered for {seconds} seconds");
    ApiError::new(ErrorCode::OVERLOADED, message).with_hint("try again later")
}
