//! What running executions use at the moment. Their shims measure it, when a client asks.

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::{ApiError, CurrentUsage, ExecutionId};
use tokio::sync::oneshot;

use super::control::not_running;
use super::queries::MAX_EXAMINED;
use super::waiters::add_waiter;
use super::{Entry, Scheduler};
use crate::authz::Scope;
use crate::execution::State;

/// The answer to a question for the current usage.
type UsageAnswer = Result<CurrentUsage, ApiError>;

/// Clients that wait for the current usage of one execution.
#[derive(Debug, Default)]
pub(super) struct UsageWaiters(Vec<oneshot::Sender<UsageAnswer>>);

/// Running executions of a range of numbers, whose shims were asked what they use.
#[derive(Debug)]
pub struct MeasuredPage {
    /// The questions, the newest execution first. There may be none although there are more pages.
    pub questions: Vec<UsageQuestion>,
    /// The lowest number of the range; the next page has executions with lower ones. `None`: the range includes all
    /// lower numbers.
    pub next: Option<u64>,
}

/// A question for the current usage of an execution.
#[derive(Debug)]
pub struct UsageQuestion {
    /// The execution.
    pub id: ExecutionId,
    /// Its number.
    pub number: u64,
    /// What comes once its shim has measured.
    pub answer: oneshot::Receiver<Result<CurrentUsage, ApiError>>,
}

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

    /// Measures what the next running executions in `scope` use, newest first, below the number `before`; at most
    /// `limit`. A page examines a bounded number of executions, so that nothing else waits for long.
    pub fn measure_running(&mut self, scope: &Scope, before: u64, limit: usize) -> MeasuredPage {
        let mut running = Vec::new();
        let mut next = None;
        let newest_first = self.entries.range(..before).rev();
        for (examined, (number, entry)) in (1..).zip(newest_first) {
            if entry.execution.state.is_running() && entry.is_visible_in(scope) {
                running.push((*number, entry.execution.submission.id));
            }
            if running.len() >= limit || examined == MAX_EXAMINED {
                next = Some(*number);
                break;
            }
        }
        let ask = |(number, id)| UsageQuestion {
            id,
            number,
            answer: self.measure_usage(number),
        };
        MeasuredPage {
            questions: running.into_iter().map(ask).collect(),
            next,
        }
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
    use crate::scheduler::testbed::{at, commit, settings, submit, submit_as};
    use crate::scheduler::{Effect, SchedulerSettings};
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
    fn the_running_executions_of_a_scope_are_asked_in_pages_newest_first() {
        let settings = SchedulerSettings {
            max_concurrent: 10,
            ..settings(10)
        };
        let mut scheduler = Scheduler::new(settings);
        // The last one has no shim yet.
        let uids = [0, 1, 1, 0, 1, 1];
        let submitted = uids.map(|uid| submit_as(&mut scheduler, uid).unwrap().0);
        for number in &submitted[..5] {
            let id = scheduler.entries[number].execution.submission.id;
            deliver(&mut scheduler, id, FromShim::Started { pid: 7, at: at(1) });
        }
        for (scope, expected) in [
            (Scope::for_root(), vec![5, 4, 3, 2, 1]),
            (Scope::for_uid(1), vec![5, 3, 2]),
            (Scope::for_uid(2), vec![]),
        ] {
            let (mut asked, mut before) = (Vec::new(), u64::MAX);
            loop {
                let page = scheduler.measure_running(&scope, before, 2);
                assert!(page.questions.len() <= 2);
                asked.extend(page.questions.iter().map(|question| question.number));
                let Some(next) = page.next else { break };
                before = next;
            }
            assert_eq!(asked, expected, "{scope:?}");
        }
        let effects = commit(&mut scheduler, at(1));
        let asks = |effect: &&Effect| matches!(effect, Effect::Send(_, ToShim::MeasureUsage));
        // Clients that have gone are not asked for again.
        assert_eq!(effects.iter().filter(asks).count(), 5);
    }

    /// Finished executions stay in memory, and are examined in vain.
    #[test]
    fn a_page_examines_a_bounded_number_of_executions() {
        let mut scheduler = Scheduler::new(SchedulerSettings {
            max_pending: 2 * MAX_EXAMINED,
            ..settings(10)
        });
        for _ in 0..=MAX_EXAMINED {
            submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        }
        let first = scheduler.measure_running(&Scope::for_root(), u64::MAX, 64);
        assert_eq!((first.questions.len(), first.next), (0, Some(2)));
        let second = scheduler.measure_running(&Scope::for_root(), 2, 64);
        assert_eq!((second.questions.len(), second.next), (0, None));
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
