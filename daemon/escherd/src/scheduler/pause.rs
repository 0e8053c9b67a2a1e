//! Pausing executions and letting them go on.
//!
//! A shim is told what is wanted and says what the kernel has made of it; whoever has asked is answered by that. Who
//! wants the opposite of what is under way overtakes it.

use escher_launcher::ipc::wire::ToShim;
use escher_protocol::{ApiError, ErrorCode, ExecutionId};
use tokio::sync::oneshot;

use super::control::not_running;
use super::{Entry, Scheduler};
use crate::execution::State;

/// What comes of a pause, or of its end.
pub type PauseReply = Result<(), ApiError>;

/// Whether an execution is stopped, and who wants that changed.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// As its shim has said last.
    is_on: bool,
    /// Those who wait for it to be the other way round.
    waiting: Vec<oneshot::Sender<PauseReply>>,
}

impl Pause {
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    fn answer(&mut self, reply: &PauseReply) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(reply.clone());
        }
    }
}

impl Scheduler {
    /// Stops everything that the execution `number` runs (`pause`), or lets it go on. The answer comes once that is
    /// so.
    ///
    /// # Errors
    /// Through the answer: `not-running`, also when it ends before; `cannot-pause`.
    pub fn pause(&mut self, number: u64, pause: bool) -> oneshot::Receiver<PauseReply> {
        let (reply, answer) = oneshot::channel();
        let has_cgroups = self.controllers.is_some();
        let Some(entry) = self.entries.get_mut(&number) else {
            return answer;
        };
        let is_starting = match entry.execution.state {
            State::Running { .. } => false,
            // It has been handed over already, and who sees what it does need not wait to hear that it runs.
            State::Launching { .. } if pause => true,
            _ => {
                let status = entry.execution.state.status();
                let _ = reply.send(Err(not_running(number, status)));
                return answer;
            }
        };
        if !has_cgroups && !entry.pause.is_on {
            let _ = reply.send(Err(cannot_pause("commands have no cgroups")));
            return answer;
        }
        if is_starting {
            // Ordered once it has started: on the way to its program it must not be held up.
            entry.pause.waiting.push(reply);
            return answer;
        }
        if entry.pause.is_on == pause {
            entry.pause.answer(&Err(overtaken(number)));
            let _ = reply.send(Ok(()));
            // A pause that was overtaken is on its way; so is what the shim of an earlier escherd has to say.
            self.order(number, order(pause));
        } else {
            entry.pause.waiting.retain(|waiting| !waiting.is_closed());
            entry.pause.waiting.push(reply);
            self.order_pause(number);
        }
        answer
    }

    /// Tells the shim of `number` what somebody waits for.
    pub(super) fn order_pause(&mut self, number: u64) {
        if let Some(entry) = self.entries.get(&number)
            && !entry.pause.waiting.is_empty()
        {
            self.order(number, order(!entry.pause.is_on));
        }
    }

    /// The shim of `number` says whether the command is stopped.
    pub(super) fn paused(&mut self, number: u64, is_on: bool) {
        if let Some(entry) = self.entries.get_mut(&number) {
            let reply = if entry.pause.is_on == is_on {
                Err(cannot_pause(
                    "its command has no cgroup, is being ended, or does not stop",
                ))
            } else {
                Ok(())
            };
            entry.pause.is_on = is_on;
            entry.pause.answer(&reply);
        }
    }

    /// The shim of `id` is of a version that cannot pause.
    pub fn pause_refused(&mut self, id: ExecutionId) {
        if let Some(number) = self.by_number(id)
            && let Some(entry) = self.entries.get_mut(&number)
        {
            let reason = "an older launcher has started it";
            entry.pause.answer(&Err(cannot_pause(reason)));
        }
    }
}

impl Entry {
    /// It is over: nothing is stopped any more.
    pub(super) fn end_pause(&mut self) {
        let submission = &self.execution.submission;
        let status = self.execution.state.status();
        self.pause
            .answer(&Err(not_running(submission.number, status)));
        self.pause.is_on = false;
    }
}

fn order(pause: bool) -> ToShim {
    if pause { ToShim::Pause } else { ToShim::Resume }
}

fn cannot_pause(reason: &str) -> ApiError {
    let message = format!("the execution cannot be paused or resumed: {reason}");
    ApiError::new(ErrorCode::CANNOT_PAUSE, message).with_hint(
        "that needs a cgroup v2 that is delegated to the launcher (Delegate=yes in its unit), and a \
         command that was started with it",
    )
}

/// Somebody else wants the opposite.
fn overtaken(number: u64) -> ApiError {
    let message =
        format!("somebody else wanted the opposite for execution {number} before it was done");
    ApiError::new(ErrorCode::CANNOT_PAUSE, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Effect;
    use crate::scheduler::testbed::{at, commit, settings, submit};
    use escher_launcher::ipc::wire::{EndCause, ExitReport, FromShim};
    use escher_protocol::{
        Controllers, Exit, Leftovers, OutputTotals, ResourceLimits, Timestamp, Usage,
    };
    use tokio::sync::oneshot::error::TryRecvError;

    /// An engine with a command that runs, and the id of that.
    fn running() -> (Scheduler, u64, ExecutionId) {
        let mut engine = Scheduler::new(settings(1));
        engine.set_controllers(Some(Controllers::default()));
        let number = submit(&mut engine, ResourceLimits::default(), None).unwrap();
        let id = engine.entries[&number].execution.submission.id;
        say(&mut engine, id, FromShim::Started { pid: 7, at: at(1) });
        (engine, number, id)
    }

    fn say(engine: &mut Scheduler, id: ExecutionId, news: FromShim) -> Vec<Effect> {
        engine.shim_news(id, news, at(1));
        commit(engine, at(1))
    }

    /// What its shim was told.
    fn told(engine: &mut Scheduler) -> Vec<ToShim> {
        let orders = commit(engine, at(1))
            .into_iter()
            .map(|effect| match effect {
                Effect::Order(_, order) => order,
                other => panic!("{other:?}"),
            });
        orders.collect()
    }

    fn code(answer: &mut oneshot::Receiver<PauseReply>) -> ErrorCode {
        answer.try_recv().unwrap().unwrap_err().code
    }

    #[test]
    fn a_pause_is_answered_once_the_kernel_has_stopped_everything() {
        let (mut engine, number, id) = running();
        let mut first = engine.pause(number, true);
        let mut second = engine.pause(number, true);
        assert_eq!(told(&mut engine), [ToShim::Pause, ToShim::Pause]);
        assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
        say(&mut engine, id, FromShim::Paused(true));
        assert_eq!(first.try_recv(), Ok(Ok(())));
        assert_eq!(second.try_recv(), Ok(Ok(())));
        assert!(engine.entries[&number].record().resources.paused);
        assert_eq!(engine.pause(number, true).try_recv(), Ok(Ok(())), "at once");
        let mut back = engine.pause(number, false);
        assert_eq!(told(&mut engine).last(), Some(&ToShim::Resume));
        assert_eq!(back.try_recv(), Err(TryRecvError::Empty));
        say(&mut engine, id, FromShim::Paused(false));
        assert_eq!(back.try_recv(), Ok(Ok(())));
        assert!(!engine.entries[&number].record().resources.paused);
    }

    #[test]
    fn what_is_being_started_is_paused_once_it_runs() {
        let mut engine = Scheduler::new(settings(1));
        engine.set_controllers(Some(Controllers::default()));
        let number = submit(&mut engine, ResourceLimits::default(), None).unwrap();
        let id = engine.entries[&number].execution.submission.id;
        let mut answer = engine.pause(number, true);
        assert_eq!(told(&mut engine), []);
        let effects = say(&mut engine, id, FromShim::Started { pid: 7, at: at(1) });
        let is_pause = |effect: &Effect| matches!(effect, Effect::Order(_, ToShim::Pause));
        assert!(effects.iter().any(is_pause));
        say(&mut engine, id, FromShim::Paused(true));
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn what_does_not_run_cannot_be_paused() {
        let mut engine = Scheduler::new(settings(1));
        engine.set_controllers(Some(Controllers::default()));
        // One runs at a time.
        let _ = submit(&mut engine, ResourceLimits::default(), None).unwrap();
        let number = submit(&mut engine, ResourceLimits::default(), None).unwrap();
        let mut answer = engine.pause(number, true);
        assert_eq!(code(&mut answer), ErrorCode::NOT_RUNNING);
    }

    #[test]
    fn an_end_answers_those_who_wait_for_a_pause() {
        let (mut engine, number, id) = running();
        let mut answer = engine.pause(number, true);
        let report = ExitReport {
            id,
            exit: Exit::Code(0),
            cause: EndCause::Itself,
            ended_by_signal: None,
            started_at: Some(at(1)),
            ended_at: Timestamp::from_micros(2),
            duration_us: 1,
            usage: Usage::default(),
            output: OutputTotals::default(),
            leftovers: Leftovers::None,
        };
        say(&mut engine, id, FromShim::Exited(Box::new(report)));
        let error = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::NOT_RUNNING);
        assert!(error.message.contains("completed"), "{error}");
    }

    #[test]
    fn without_cgroups_nothing_is_sent_and_that_is_said() {
        let (mut engine, number, _) = running();
        engine.set_controllers(None);
        for pause in [true, false] {
            let mut answer = engine.pause(number, pause);
            assert_eq!(code(&mut answer), ErrorCode::CANNOT_PAUSE);
        }
        assert_eq!(told(&mut engine), []);
    }

    #[test]
    fn what_is_paused_can_be_resumed_also_without_a_launcher_that_could_pause_it() {
        let (mut engine, number, id) = running();
        say(&mut engine, id, FromShim::Paused(true));
        engine.set_controllers(None);
        let mut answer = engine.pause(number, false);
        assert_eq!(told(&mut engine), [ToShim::Resume]);
        say(&mut engine, id, FromShim::Paused(false));
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn a_shim_that_cannot_says_so() {
        let (mut engine, number, id) = running();
        let mut too_old = engine.pause(number, true);
        engine.pause_refused(id);
        assert_eq!(code(&mut too_old), ErrorCode::CANNOT_PAUSE);
        let mut without_cgroup = engine.pause(number, true);
        say(&mut engine, id, FromShim::Paused(false));
        assert_eq!(code(&mut without_cgroup), ErrorCode::CANNOT_PAUSE);
    }

    #[test]
    fn the_opposite_overtakes_a_pause() {
        let (mut engine, number, _) = running();
        let mut pause = engine.pause(number, true);
        let mut resume = engine.pause(number, false);
        assert_eq!(told(&mut engine), [ToShim::Pause, ToShim::Resume]);
        assert_eq!(code(&mut pause), ErrorCode::CANNOT_PAUSE);
        assert_eq!(resume.try_recv(), Ok(Ok(())));
    }
}
