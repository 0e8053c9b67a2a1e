//! Pausing and resuming executions.
//!
//! The shim gets the request and reports what the kernel has made of it; that answers the clients. A request for the
//! opposite of what is in progress overtakes it.

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::{ApiError, ErrorCode};
use tokio::sync::oneshot;

use super::control::not_running;
use super::waiters::add_waiter;
use super::{Entry, Scheduler};
use crate::execution::State;

/// The answer to a pause or resume.
pub type PauseAnswer = Result<(), ApiError>;

/// Whether an execution is paused, and the clients that wait for a change.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// As last reported by its shim.
    is_paused: bool,
    /// Clients that wait for the opposite state.
    waiting: Vec<oneshot::Sender<PauseAnswer>>,
}

impl Pause {
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    fn answer(&mut self, answer: &PauseAnswer) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(answer.clone());
        }
    }
}

impl Scheduler {
    /// Pauses the execution `number`, or resumes it if `pause` is false. The answer comes once the kernel has
    /// done so.
    ///
    /// # Errors
    /// In the answer: `not-running`, also if the execution ends first; `cannot-pause`.
    pub fn pause(&mut self, number: u64, pause: bool) -> oneshot::Receiver<PauseAnswer> {
        let (responder, answer) = oneshot::channel();
        let has_cgroups = self.controllers.is_some();
        let Some(entry) = self.entries.get_mut(&number) else {
            return answer;
        };
        let is_starting = match entry.execution.state {
            State::Running { .. } => false,
            // The launch may be on its way to a shim. A client that sees the effects of the command may pause it before
            // escherd knows that it runs.
            State::Admitted { .. } if pause || !has_cgroups => true,
            _ => {
                let status = entry.execution.state.status();
                let _ = responder.send(Err(not_running(number, status)));
                return answer;
            }
        };
        if !has_cgroups && !entry.pause.is_paused {
            let _ = responder.send(Err(cannot_pause("commands have no cgroups")));
            return answer;
        }
        if is_starting {
            // Sent once the program runs: its start must not be frozen half-way.
            add_waiter(&mut entry.pause.waiting, responder);
            return answer;
        }
        if entry.pause.is_paused == pause {
            entry.pause.answer(&Err(overtaken(number)));
            let _ = responder.send(Ok(()));
            // A pause that was overtaken, or one of an earlier escherd, may still be on its way to the shim.
            self.send(number, pause_message(pause));
        } else {
            add_waiter(&mut entry.pause.waiting, responder);
            self.send_pause(number);
        }
        answer
    }

    /// Sends the shim of `number` the state that clients wait for, if any do.
    pub(super) fn send_pause(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number)
            && !entry.pause.waiting.is_empty()
        {
            self.send(number, pause_message(!entry.pause.is_paused));
        }
    }

    /// Handles the report of a shim whether its command is paused.
    pub(super) fn on_paused(&mut self, number: u64, is_paused: bool) {
        if let Some(entry) = self.entries.get_mut(&number) {
            let answer = if entry.pause.is_paused == is_paused {
                Err(cannot_pause(
                    "its command has no cgroup, is being ended, or does not stop",
                ))
            } else {
                Ok(())
            };
            entry.pause.is_paused = is_paused;
            entry.pause.answer(&answer);
        }
    }
}

impl Entry {
    /// Answers the clients that wait for a pause or resume: the execution has ended.
    pub(super) fn end_pause(&mut self) {
        let submission = &self.execution.submission;
        let status = self.execution.state.status();
        self.pause
            .answer(&Err(not_running(submission.number, status)));
        self.pause.is_paused = false;
    }
}

fn pause_message(pause: bool) -> ToShim {
    if pause { ToShim::Pause } else { ToShim::Resume }
}

fn cannot_pause(reason: &str) -> ApiError {
    let message = format!("the execution cannot be paused or resumed: {reason}");
    ApiError::new(ErrorCode::CANNOT_PAUSE, message).with_hint(
        "pausing needs a cgroup v2 that is delegated to the launcher (Delegate=yes in its unit), and a \
         command that was started there",
    )
}

/// The answer to a request that the opposite request has overtaken.
fn overtaken(number: u64) -> ApiError {
    let message = format!("execution {number}: overtaken by a request for the opposite");
    ApiError::new(ErrorCode::CANNOT_PAUSE, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Effect;
    use crate::scheduler::testbed::{at, commit, settings, submit};
    use escher_launcher::ipc::wire::{ExitReport, FIRST_ATTEMPT, FromShim};
    use escher_protocol::{Controllers, ExecutionId, Exit, ResourceLimits, Timestamp};
    use tokio::sync::oneshot::error::TryRecvError;

    /// Returns a scheduler with one running execution, and its number and id.
    fn running() -> (Scheduler, u64, ExecutionId) {
        let mut scheduler = Scheduler::new(settings(1));
        scheduler.set_controllers(Some(Controllers::default()));
        let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let id = scheduler.entries[&number].execution.submission.id;
        deliver(&mut scheduler, id, FromShim::Started { pid: 7, at: at(1) });
        (scheduler, number, id)
    }

    fn deliver(scheduler: &mut Scheduler, id: ExecutionId, message: FromShim) -> Vec<Effect> {
        scheduler.on_shim_message(id, message, at(1));
        commit(scheduler, at(1))
    }

    /// Returns the messages to the shim.
    fn messages(scheduler: &mut Scheduler) -> Vec<ToShim> {
        let orders = commit(scheduler, at(1))
            .into_iter()
            .map(|effect| match effect {
                Effect::Send(_, order) => order,
                other => panic!("{other:?}"),
            });
        orders.collect()
    }

    fn code(answer: &mut oneshot::Receiver<PauseAnswer>) -> ErrorCode {
        answer.try_recv().unwrap().unwrap_err().code
    }

    #[test]
    fn answers_a_pause_once_everything_is_stopped() {
        let (mut scheduler, number, id) = running();
        let mut first = scheduler.pause(number, true);
        let mut second = scheduler.pause(number, true);
        assert_eq!(messages(&mut scheduler), [ToShim::Pause, ToShim::Pause]);
        assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
        deliver(&mut scheduler, id, FromShim::Paused(true));
        assert_eq!(first.try_recv(), Ok(Ok(())));
        assert_eq!(second.try_recv(), Ok(Ok(())));
        assert!(scheduler.entries[&number].record().resources.paused);
        assert_eq!(
            scheduler.pause(number, true).try_recv(),
            Ok(Ok(())),
            "at once"
        );
        let mut resumed = scheduler.pause(number, false);
        assert_eq!(messages(&mut scheduler).last(), Some(&ToShim::Resume));
        assert_eq!(resumed.try_recv(), Err(TryRecvError::Empty));
        deliver(&mut scheduler, id, FromShim::Paused(false));
        assert_eq!(resumed.try_recv(), Ok(Ok(())));
        assert!(!scheduler.entries[&number].record().resources.paused);
    }

    #[test]
    fn a_starting_execution_is_paused_once_it_runs() {
        let mut scheduler = Scheduler::new(settings(1));
        scheduler.set_controllers(Some(Controllers::default()));
        let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let id = scheduler.entries[&number].execution.submission.id;
        let mut answer = scheduler.pause(number, true);
        assert_eq!(messages(&mut scheduler), []);
        let effects = deliver(&mut scheduler, id, FromShim::Started { pid: 7, at: at(1) });
        let is_pause = |effect: &Effect| matches!(effect, Effect::Send(_, ToShim::Pause));
        assert!(effects.iter().any(is_pause));
        deliver(&mut scheduler, id, FromShim::Paused(true));
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn a_pending_execution_cannot_be_paused() {
        let mut scheduler = Scheduler::new(settings(1));
        scheduler.set_controllers(Some(Controllers::default()));
        // The settings allow one at a time.
        let _ = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let mut answer = scheduler.pause(number, true);
        assert_eq!(code(&mut answer), ErrorCode::NOT_RUNNING);
    }

    #[test]
    fn the_end_of_an_execution_answers_a_waiting_pause() {
        let (mut scheduler, number, id) = running();
        let mut answer = scheduler.pause(number, true);
        let ended_at = Timestamp::from_micros(2);
        let report = ExitReport::new(id, FIRST_ATTEMPT, Exit::Code(0), ended_at);
        deliver(&mut scheduler, id, FromShim::Exited(Box::new(report)));
        let error = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::NOT_RUNNING);
        assert!(error.message.contains("completed"), "{error}");
    }

    #[test]
    fn without_cgroups_a_pause_is_refused_and_nothing_sent() {
        let (mut scheduler, number, _) = running();
        scheduler.set_controllers(None);
        for pause in [true, false] {
            let mut answer = scheduler.pause(number, pause);
            assert_eq!(code(&mut answer), ErrorCode::CANNOT_PAUSE);
        }
        assert_eq!(messages(&mut scheduler), []);
    }

    #[test]
    fn resumes_even_when_the_launcher_can_no_longer_pause() {
        let (mut scheduler, number, id) = running();
        deliver(&mut scheduler, id, FromShim::Paused(true));
        scheduler.set_controllers(None);
        let mut answer = scheduler.pause(number, false);
        assert_eq!(messages(&mut scheduler), [ToShim::Resume]);
        deliver(&mut scheduler, id, FromShim::Paused(false));
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn a_shim_that_cannot_pause_reports_it() {
        let (mut scheduler, number, id) = running();
        let mut answer = scheduler.pause(number, true);
        deliver(&mut scheduler, id, FromShim::Paused(false));
        assert_eq!(code(&mut answer), ErrorCode::CANNOT_PAUSE);
    }

    #[test]
    fn the_opposite_request_overtakes_a_pause() {
        let (mut scheduler, number, _) = running();
        let mut pause = scheduler.pause(number, true);
        let mut resume = scheduler.pause(number, false);
        assert_eq!(messages(&mut scheduler), [ToShim::Pause, ToShim::Resume]);
        assert_eq!(code(&mut pause), ErrorCode::CANNOT_PAUSE);
        assert_eq!(resume.try_recv(), Ok(Ok(())));
    }
}
