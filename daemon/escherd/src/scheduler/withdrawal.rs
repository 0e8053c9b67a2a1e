//! Cancels of executions that have a slot and whose command has not started.
//!
//! A launch may wait for a shim, for as long as there is no launcher. What no shim has is withdrawn: it finishes as
//! cancelled, in one commit, and never starts. Whether a shim has it only the task that carries out launches knows, so
//! that is asked ([`Effect::Withdraw`]), and the cancels wait for the answer.

use escher_protocol::message::{CancelAnswer, EventKind};
use escher_protocol::{CancelMode, Canceller, ExecutionId, Timestamp};

use super::finish::Evidence;
use super::persist::CancelResponder;
use super::{Effect, Scheduler};
use crate::execution::{State, Transition};

/// How far the launch of an execution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaunchPhase {
    /// It has not begun. The execution is queued, or its admission is not committed yet.
    NotBegun,
    /// An earlier escherd has launched it, and its shim has not reported itself to this one.
    ByEarlierEscherd,
    /// This escherd has launched it, and no shim has reported itself. The launch may still wait for one.
    Sent,
    /// Its shim has reported itself.
    Reported,
}

impl LaunchPhase {
    /// Whether messages for its shim can be sent. They follow the launch.
    pub(super) fn accepts_messages(self) -> bool {
        matches!(self, LaunchPhase::Sent | LaunchPhase::Reported)
    }
}

/// A cancel that waits until it is known whether a shim has the execution.
#[derive(Debug)]
pub(super) struct WaitingCancel {
    by: Canceller,
    mode: CancelMode,
    responder: CancelResponder,
}

impl Scheduler {
    /// Cancels the execution `number`: withdraws it if no shim has it.
    pub(super) fn begin_cancel(
        &mut self,
        number: u64,
        by: Canceller,
        mode: CancelMode,
        at: Timestamp,
        responder: CancelResponder,
    ) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let is_admitted = entry.execution.state == State::Admitted { cancel: None };
        match entry.launch_phase {
            LaunchPhase::NotBegun if is_admitted => {
                self.withdraw_admitted(number, by, at, responder);
            }
            LaunchPhase::Sent if is_admitted => {
                entry.waiting_cancels.push(WaitingCancel {
                    by,
                    mode,
                    responder,
                });
                if entry.waiting_cancels.len() == 1 {
                    let id = entry.execution.submission.id;
                    self.effects.push(Effect::Withdraw(id));
                }
            }
            _ => self.cancel_queued_or_launched(number, by, mode, at, responder),
        }
    }

    /// Continues the cancels that wait for the answer to [`Effect::Withdraw`]. If `is_withdrawn`, no shim has got
    /// the execution, and none will.
    pub fn on_withdrawal(&mut self, id: ExecutionId, is_withdrawn: bool, now: Timestamp) {
        let Some(number) = self.number_of(id) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let mut cancels = std::mem::take(&mut entry.waiting_cancels).into_iter();
        if is_withdrawn && let Some(first) = cancels.next() {
            self.withdraw_admitted(number, first.by, now, first.responder);
        }
        for cancel in cancels {
            let WaitingCancel {
                by,
                mode,
                responder,
            } = cancel;
            self.cancel_queued_or_launched(number, by, mode, now, responder);
        }
    }

    /// Finishes an execution that has a slot and that no shim has.
    fn withdraw_admitted(
        &mut self,
        number: u64,
        by: Canceller,
        at: Timestamp,
        responder: CancelResponder,
    ) {
        let withdraw = Transition::Withdraw { by: by.clone(), at };
        if self.transition(number, withdraw).is_some() {
            self.free_slot(number);
            self.finish_withdrawn(number, by, at, responder);
        }
    }

    /// Records the end of an execution that was withdrawn, and answers the cancel with that.
    pub(super) fn finish_withdrawn(
        &mut self,
        number: u64,
        by: Canceller,
        at: Timestamp,
        responder: CancelResponder,
    ) {
        let requested = self.event(number, at, EventKind::CancelRequested(by));
        let requested = requested.into_iter().collect();
        let cancel = Some((responder, CancelAnswer::Withdrawn));
        self.finish(number, at, Evidence::None, requested, cancel);
        // Its slot is free, or a share has bound others because it waited.
        self.admit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Scope;
    use crate::scheduler::testbed::{at, commit, settings, submit, submit_as};
    use escher_launcher::ipc::wire::{FromShim, ToShim};
    use escher_protocol::{ApiError, ResourceLimits, Status};
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    type Answer = oneshot::Receiver<Result<CancelAnswer, ApiError>>;

    /// Returns a scheduler that has sent one launch, with the number and id of the execution.
    fn with_launch() -> (Scheduler, u64, ExecutionId) {
        let mut scheduler = Scheduler::new(settings(10));
        let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let id = scheduler.entries[&number].execution.submission.id;
        (scheduler, number, id)
    }

    fn cancel(scheduler: &mut Scheduler, number: u64, mode: CancelMode) -> Answer {
        scheduler.cancel(&Scope::for_root(), number, mode, at(1))
    }

    #[test]
    fn what_waits_for_a_shim_is_withdrawn_and_its_slot_goes_to_the_next() {
        let (mut scheduler, number, id) = with_launch();
        let next = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let mut first = cancel(&mut scheduler, number, CancelMode::Graceful);
        let mut second = cancel(&mut scheduler, number, CancelMode::Kill);
        let effects = commit(&mut scheduler, at(1));
        assert_eq!(effects, [Effect::Withdraw(id)], "asked once");
        assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
        scheduler.on_withdrawal(id, true, at(2));
        let effects = commit(&mut scheduler, at(2));
        assert!(matches!(&*effects, [Effect::Launch(_)]), "{effects:?}");
        assert_eq!(first.try_recv(), Ok(Ok(CancelAnswer::Withdrawn)));
        let finished = CancelAnswer::AlreadyFinished(Status::Cancelled);
        assert_eq!(second.try_recv(), Ok(Ok(finished)));
        let record = scheduler.wait(number).try_recv().unwrap();
        assert_eq!(record.status, Status::Cancelled);
        assert!(scheduler.entries[&next].launch_phase.accepts_messages());
    }

    #[test]
    fn a_withdrawal_is_one_commit() {
        let (mut scheduler, number, id) = with_launch();
        let _answer = cancel(&mut scheduler, number, CancelMode::Graceful);
        assert_eq!(scheduler.take_effects(), [Effect::Withdraw(id)]);
        scheduler.on_withdrawal(id, true, at(2));
        let effects = scheduler.take_effects();
        assert!(matches!(&*effects, [Effect::Commit(_)]), "{effects:?}");
    }

    #[test]
    fn what_a_shim_has_gets_the_cancels_in_order() {
        let (mut scheduler, number, id) = with_launch();
        let mut first = cancel(&mut scheduler, number, CancelMode::Graceful);
        let mut second = cancel(&mut scheduler, number, CancelMode::Kill);
        commit(&mut scheduler, at(1));
        scheduler.on_withdrawal(id, false, at(2));
        let modes = commit(&mut scheduler, at(2)).into_iter().map(|effect| {
            let Effect::Send(_, ToShim::Cancel { mode, .. }) = effect else {
                panic!("{effect:?}");
            };
            mode
        });
        assert_eq!(
            modes.collect::<Vec<_>>(),
            [CancelMode::Graceful, CancelMode::Kill]
        );
        assert_eq!(first.try_recv(), Ok(Ok(CancelAnswer::Ending)));
        assert_eq!(second.try_recv(), Ok(Ok(CancelAnswer::AlreadyEnding)));
        let mut third = cancel(&mut scheduler, number, CancelMode::Graceful);
        assert_eq!(commit(&mut scheduler, at(3)), [], "nothing more to ask");
        assert_eq!(third.try_recv(), Ok(Ok(CancelAnswer::AlreadyEnding)));
    }

    #[test]
    fn a_command_that_has_started_meanwhile_is_ended_by_its_shim() {
        let (mut scheduler, number, id) = with_launch();
        let mut answer = cancel(&mut scheduler, number, CancelMode::Graceful);
        let started = FromShim::Started { pid: 7, at: at(1) };
        scheduler.on_shim_message(id, started, at(1));
        scheduler.on_withdrawal(id, false, at(2));
        commit(&mut scheduler, at(2));
        assert_eq!(answer.try_recv(), Ok(Ok(CancelAnswer::Ending)));
    }

    #[test]
    fn what_is_cancelled_before_the_commit_of_its_admission_is_never_launched() {
        let mut scheduler = Scheduler::new(settings(10));
        submit_as(&mut scheduler, 0).unwrap();
        let (queued, _) = submit_as(&mut scheduler, 0).unwrap();
        scheduler.configure(super::super::SchedulerSettings {
            max_concurrent: 2,
            ..settings(10)
        });
        let mut answer = cancel(&mut scheduler, queued, CancelMode::Graceful);
        assert_eq!(commit(&mut scheduler, at(1)), []);
        assert_eq!(answer.try_recv(), Ok(Ok(CancelAnswer::Withdrawn)));
        assert_eq!(
            scheduler.counts().pending,
            1,
            "the other one waits for a shim"
        );
    }

    #[test]
    fn a_shutdown_withdraws_what_waits_for_a_shim() {
        let (mut scheduler, number, id) = with_launch();
        scheduler.begin_shutdown(CancelMode::Graceful, at(1));
        assert_eq!(commit(&mut scheduler, at(1)), [Effect::Withdraw(id)]);
        scheduler.on_withdrawal(id, true, at(2));
        assert_eq!(commit(&mut scheduler, at(2)), []);
        let record = scheduler.wait(number).try_recv().unwrap();
        assert_eq!(record.cancelled_by, Some(Canceller::Host));
    }
}
