//! What running executions use at the moment. Their shims measure it, when a client asks.

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::{ApiError, CurrentUsage};
use tokio::sync::oneshot;

use super::control::not_running;
use super::waiters::add_waiter;
use super::{Entry, Scheduler};
use crate::execution::State;

/// The answer to a question for the current usage.
type UsageAnswer = Result<CurrentUsage, ApiError>;

/// Clients that wait for the current usage of one execution.
#[derive(Debug, Default)]
pub(super) struct UsageWaiters(Vec<oneshot::Sender<UsageAnswer>>);

impl UsageWaiters {
    fn answer(&mut self, answer: &UsageAnswer) {
        for waiting in self.0.drain(..) {
            let _ = waiting.send(answer.clone());
        }
    }
}

impl Scheduler {
    /// Measures what the execution `number` uses at the moment. The answer comes once its shim has done so; those who
    /// ask meanwhile get the same.
    ///
    /// # Errors
    /// In the answer: `not-running`, also if the execution ends first.
    pub fn measure_usage(
        &mut self,
        number: u64,
    ) -> oneshot::Receiver<Result<CurrentUsage, ApiError>> {
        let (responder, answer) = oneshot::channel();
        let Some(entry) = self.entries.get_mut(&number) else {
            return answer;
        };
        let state = &entry.execution.state;
        if !matches!(state, State::Running { .. }) {
            let _ = responder.send(Err(not_running(number, state.status())));
            return answer;
        }
        let is_asked = !entry.usage_waiters.0.is_empty();
        add_waiter(&mut entry.usage_waiters.0, responder);
        if !is_asked {
            self.send(number, ToShim::MeasureUsage);
        }
        answer
    }

    /// Asks the shim of `number` for the current usage, if clients wait for it.
    pub(super) fn send_usage_question(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number)
            && !entry.usage_waiters.0.is_empty()
        {
            self.send(number, ToShim::MeasureUsage);
        }
    }

    /// Handles what a shim has measured.
    pub(super) fn on_usage_measured(&mut self, number: u64, usage: CurrentUsage) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.usage_waiters.answer(&Ok(usage));
        }
    }
}

impl Entry {
    /// Answers the clients that wait for the current usage: the execution has ended.
    pub(super) fn end_usage(&mut self) {
        let submission = &self.execution.submission;
        let status = self.execution.state.status();
        let answer = Err(not_running(submission.number, status));
        self.usage_waiters.answer(&answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Effect;
    use crate::scheduler::testbed::{at, commit, settings, submit};
    use escher_launcher::ipc::wire::{ExitReport, FIRST_ATTEMPT, FromShim};
    use escher_protocol::{ErrorCode, ExecutionId, Exit, ResourceLimits, Timestamp};

    fn deliver(scheduler: &mut Scheduler, id: ExecutionId, message: FromShim) -> Vec<Effect> {
        scheduler.on_shim_message(id, message, at(1));
        commit(scheduler, at(1))
    }

    /// Returns a scheduler with a running execution.
    fn running() -> (Scheduler, u64, ExecutionId) {
        let mut scheduler = Scheduler::new(settings(10));
        let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let id = scheduler.entries[&number].execution.submission.id;
        let at = Timestamp::from_micros(1);
        deliver(&mut scheduler, id, FromShim::Started { pid: 7, at });
        (scheduler, number, id)
    }

    #[test]
    fn a_shim_is_asked_once_for_all_who_ask_meanwhile() {
        let (mut scheduler, number, id) = running();
        let mut answers = [
            scheduler.measure_usage(number),
            scheduler.measure_usage(number),
        ];
        let question = || Effect::Send(id, ToShim::MeasureUsage);
        assert_eq!(commit(&mut scheduler, at(1)), [question()]);
        // Also by an escherd that has lost the shim and adopted it again.
        scheduler.send_pending_requests(number);
        assert_eq!(commit(&mut scheduler, at(1)), [question()]);
        let usage = CurrentUsage {
            tasks: Some(3),
            ..CurrentUsage::default()
        };
        deliver(&mut scheduler, id, FromShim::CurrentUsage(usage));
        for answer in &mut answers {
            assert_eq!(answer.try_recv(), Ok(Ok(usage)));
        }
        // A second answer, of before, is for nobody.
        deliver(&mut scheduler, id, FromShim::CurrentUsage(usage));
        let mut next = scheduler.measure_usage(number);
        assert_eq!(commit(&mut scheduler, at(1)), [question()]);
        assert!(next.try_recv().is_err());
    }

    #[test]
    fn what_does_not_run_uses_nothing() {
        let (mut scheduler, number, id) = running();
        let waiting = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let mut answers = vec![
            scheduler.measure_usage(waiting),
            scheduler.measure_usage(number),
        ];
        let report = ExitReport::new(id, FIRST_ATTEMPT, Exit::Code(0), at(2));
        deliver(&mut scheduler, id, FromShim::Exited(Box::new(report)));
        answers.push(scheduler.measure_usage(number));
        for answer in &mut answers {
            let error = answer.try_recv().unwrap().unwrap_err();
            assert_eq!(error.code, ErrorCode::NOT_RUNNING);
        }
    }
}
