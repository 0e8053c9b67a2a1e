//! Signals of clients to executions.
//!
//! The shim sends a signal, and its answer is that of the client. Until then escherd keeps the signal, and sends it again
//! to a shim that it has lost and adopted again: the shim knows which it has sent.

use escher_launcher::ipc::wire::{SignalOrder, ToShim};
use escher_protocol::message::CancelAnswer;
use escher_protocol::{
    ApiError, CancelMode, ErrorCode, SentSignals, SignalAnswer, SignalRecipients, SignalSerial,
    Timestamp,
};
use tokio::sync::oneshot;

use super::control::not_running;
use super::waiters::add_waiter;
use super::withdrawal::LaunchPhase;
use super::{Entry, Scheduler};
use crate::authz::Scope;

/// The highest number of a signal (signal(7)).
const MAX_SIGNAL: i32 = 64;

/// Most signals to one execution that its shim has not answered. Further ones are refused.
const MAX_PENDING_SIGNALS: usize = 16;

/// A signal as a client asks for it.
#[derive(Debug, Clone, Copy)]
pub struct SignalRequest {
    /// Its number.
    pub signal: i32,
    /// Which processes get it.
    pub recipients: SignalRecipients,
    /// Tells it from all others.
    pub serial: SignalSerial,
}

/// What follows from a request to send a signal.
#[derive(Debug)]
pub enum SignalProgress {
    /// The signal is on its way.
    Sending(oneshot::Receiver<Result<SignalAnswer, ApiError>>),
    /// The execution of this number has no shim, so it is being cancelled.
    Cancelling(u64, oneshot::Receiver<Result<CancelAnswer, ApiError>>),
}

/// Signals to one execution that its shim has not answered, in order.
#[derive(Debug, Default)]
pub(super) struct PendingSignals(Vec<PendingSignal>);

#[derive(Debug)]
struct PendingSignal {
    order: SignalOrder,
    waiting: Vec<oneshot::Sender<Result<SignalAnswer, ApiError>>>,
}

impl Scheduler {
    /// Sends a signal to the execution `number`. The answer comes once its shim has sent it.
    ///
    /// # Errors
    /// `not-running`, also in the answer, if the execution ends first; `invalid-request` if there is no such signal;
    /// `too-many-requests`.
    pub fn signal(
        &mut self,
        scope: &Scope,
        number: u64,
        request: SignalRequest,
        now: Timestamp,
    ) -> Result<SignalProgress, ApiError> {
        check_signal(request.signal)?;
        let (responder, answer) = oneshot::channel();
        let Some(entry) = self.entries.get_mut(&number) else {
            return Ok(SignalProgress::Sending(answer));
        };
        let state = &entry.execution.state;
        // Whether the program runs, the shim knows first. Without a launcher there may be none for long.
        let may_have_shim = match entry.launch_phase {
            LaunchPhase::Reported => true,
            LaunchPhase::Sent => self.has_launcher,
            LaunchPhase::NotBegun | LaunchPhase::ByEarlierEscherd => false,
        };
        let has_shim = state.has_slot() && may_have_shim;
        if request.recipients == SignalRecipients::ProcessGroup && !has_shim && !entry.is_over() {
            let answer = self.cancel(scope, number, CancelMode::Graceful, now);
            return Ok(SignalProgress::Cancelling(number, answer));
        }
        if !state.has_slot() {
            return Err(not_running(number, state.status()));
        }
        let order = SignalOrder {
            signal: request.signal,
            recipients: request.recipients,
            by: scope.caller().clone(),
            serial: request.serial,
        };
        entry.signals.add(order.clone(), responder)?;
        self.send(number, ToShim::Signal(order));
        Ok(SignalProgress::Sending(answer))
    }

    /// Sends the shim of `number` the signals that it has not answered.
    pub(super) fn send_signals(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        let pending = entry.signals.0.iter();
        let orders: Vec<SignalOrder> = pending.map(|pending| pending.order.clone()).collect();
        for order in orders {
            self.send(number, ToShim::Signal(order));
        }
    }

    /// Handles the answer of a shim to a signal.
    pub(super) fn on_signalled(
        &mut self,
        number: u64,
        serial: SignalSerial,
        answer: SignalAnswer,
        sent: SentSignals,
    ) {
        if let Some(entry) = self.entries.get_mut(&number)
            && !entry.is_over()
        {
            entry.execution.signals = sent;
            entry.signals.answer(serial, answer);
        }
    }
}

impl PendingSignals {
    /// Adds a signal, or another client that waits for it.
    fn add(
        &mut self,
        order: SignalOrder,
        responder: oneshot::Sender<Result<SignalAnswer, ApiError>>,
    ) -> Result<(), ApiError> {
        let mut pending = self.0.iter_mut();
        if let Some(repeated) = pending.find(|pending| pending.order.serial == order.serial) {
            add_waiter(&mut repeated.waiting, responder);
            return Ok(());
        }
        if self.0.len() >= MAX_PENDING_SIGNALS {
            let message =
                format!("{MAX_PENDING_SIGNALS} signals to the execution are waiting for its shim");
            return Err(ApiError::new(ErrorCode::TOO_MANY_REQUESTS, message));
        }
        self.0.push(PendingSignal {
            order,
            waiting: vec![responder],
        });
        Ok(())
    }

    fn answer(&mut self, serial: SignalSerial, answer: SignalAnswer) {
        let mut pending = self.0.iter();
        let answered = pending.position(|pending| pending.order.serial == serial);
        if let Some(index) = answered {
            for waiting in self.0.remove(index).waiting {
                let _ = waiting.send(Ok(answer));
            }
        }
    }
}

impl Entry {
    /// Answers the clients whose signals came too late: the execution has ended.
    pub(super) fn end_signals(&mut self) {
        let number = self.execution.submission.number;
        let status = self.execution.state.status();
        for pending in std::mem::take(&mut self.signals.0) {
            for waiting in pending.waiting {
                let _ = waiting.send(Err(not_running(number, status)));
            }
        }
    }
}

/// Checks that `signal` is the number of a signal.
///
/// # Errors
/// `invalid-request`.
pub fn check_signal(signal: i32) -> Result<(), ApiError> {
    if (1..=MAX_SIGNAL).contains(&signal) {
        Ok(())
    } else {
        let message = format!("{signal} is not a signal number (1 to {MAX_SIGNAL})");
        Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::{Loss, State};
    use crate::scheduler::Effect;
    use crate::scheduler::testbed::{at, commit, settings, submit};
    use escher_launcher::ipc::wire::FromShim;
    use escher_protocol::{ExecutionId, Leftovers, ResourceLimits, Status};

    type Answer = oneshot::Receiver<Result<SignalAnswer, ApiError>>;

    /// Returns a scheduler with one launched execution, whose shim has not reported, and its number and id.
    fn launched() -> (Scheduler, u64, ExecutionId) {
        let mut scheduler = Scheduler::new(settings(1));
        scheduler.has_launcher = true;
        let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let id = scheduler.entries[&number].execution.submission.id;
        (scheduler, number, id)
    }

    fn running() -> (Scheduler, u64, ExecutionId) {
        let (mut scheduler, number, id) = launched();
        scheduler.on_shim_message(id, FromShim::Started { pid: 7, at: at(1) }, at(1));
        commit(&mut scheduler, at(1));
        (scheduler, number, id)
    }

    fn request(recipients: SignalRecipients) -> SignalRequest {
        SignalRequest {
            signal: 2,
            recipients,
            serial: SignalSerial::unique(),
        }
    }

    fn send(scheduler: &mut Scheduler, number: u64, request: SignalRequest) -> Answer {
        match scheduler.signal(&Scope::for_root(), number, request, at(2)) {
            Ok(SignalProgress::Sending(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the serials of the signals that the shim was sent.
    fn sent(scheduler: &mut Scheduler) -> Vec<SignalSerial> {
        let effects = scheduler.take_effects().into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Send(_, ToShim::Signal(order)) => Some(order.serial),
                _ => None,
            })
            .collect()
    }

    fn signalled(serial: SignalSerial, sent: &SentSignals) -> FromShim {
        FromShim::Signalled {
            serial,
            answer: SignalAnswer::Sent,
            sent: sent.clone(),
        }
    }

    #[test]
    fn a_signal_is_answered_by_the_shim_and_the_record_says_by_whom_it_was_sent() {
        let (mut scheduler, number, id) = running();
        let request = request(SignalRecipients::MainProcess);
        let mut answer = send(&mut scheduler, number, request);
        let mut repeated = send(&mut scheduler, number, request);
        assert_eq!(sent(&mut scheduler), [request.serial, request.serial]);
        assert!(answer.try_recv().is_err());
        let mut signals = SentSignals::default();
        signals.add(2, Scope::for_root().caller().clone(), at(2));
        scheduler.on_shim_message(id, signalled(request.serial, &signals), at(2));
        assert_eq!(answer.try_recv(), Ok(Ok(SignalAnswer::Sent)));
        assert_eq!(repeated.try_recv(), Ok(Ok(SignalAnswer::Sent)));
        assert_eq!(scheduler.entries[&number].record().signals, signals);
    }

    #[test]
    fn an_unanswered_signal_is_sent_again_to_an_adopted_shim_and_answered_at_the_end() {
        let (mut scheduler, number, id) = running();
        let request = request(SignalRecipients::Tree);
        let mut answer = send(&mut scheduler, number, request);
        sent(&mut scheduler);
        scheduler.send_pending_requests(number);
        assert_eq!(sent(&mut scheduler), [request.serial]);
        scheduler.on_shim_death(id, Loss::ShimDied(Leftovers::None), at(3));
        commit(&mut scheduler, at(3));
        let refused = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::NOT_RUNNING);
        assert!(refused.message.contains("lost"), "{refused}");
    }

    #[test]
    fn signals_that_a_shim_does_not_answer_are_limited() {
        let (mut scheduler, number, _) = running();
        let answers: Vec<Answer> = (0..MAX_PENDING_SIGNALS)
            .map(|_| {
                send(
                    &mut scheduler,
                    number,
                    request(SignalRecipients::MainProcess),
                )
            })
            .collect();
        assert_eq!(answers.len(), MAX_PENDING_SIGNALS);
        let one_more = request(SignalRecipients::MainProcess);
        let refused = scheduler.signal(&Scope::for_root(), number, one_more, at(2));
        assert_eq!(refused.unwrap_err().code, ErrorCode::TOO_MANY_REQUESTS);
    }

    /// Ctrl-C waited for the next launcher.
    #[test]
    fn a_signal_to_the_process_group_of_what_waits_for_a_launcher_cancels_it() {
        let (mut scheduler, number, _) = launched();
        scheduler.on_launcher_disconnected();
        let request = request(SignalRecipients::ProcessGroup);
        let signalled = scheduler.signal(&Scope::for_root(), number, request, at(2));
        assert!(matches!(signalled, Ok(SignalProgress::Cancelling(..))));
    }

    #[test]
    fn a_signal_to_the_process_group_of_what_waits_for_its_turn_cancels_it() {
        let (mut scheduler, number, _) = launched();
        let queued = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let group = request(SignalRecipients::ProcessGroup);
        let progress = scheduler.signal(&Scope::for_root(), queued, group, at(2));
        assert!(matches!(progress, Ok(SignalProgress::Cancelling(..))));
        let state = &scheduler.entries[&queued].execution.state;
        assert_eq!(state.status(), Status::Cancelled);
        assert!(matches!(state, State::Finished(_)));
        // The shim of the other one decides.
        let _answer = send(&mut scheduler, number, group);
        assert_eq!(sent(&mut scheduler), [group.serial]);
    }

    #[test]
    fn other_signals_follow_the_launch_and_are_refused_in_the_queue() {
        let (mut scheduler, number, _) = launched();
        let queued = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let request = request(SignalRecipients::MainProcess);
        let _answer = send(&mut scheduler, number, request);
        assert_eq!(sent(&mut scheduler), [request.serial]);
        let refused = scheduler.signal(&Scope::for_root(), queued, request, at(2));
        assert_eq!(refused.unwrap_err().code, ErrorCode::NOT_RUNNING);
    }

    #[test]
    fn only_numbers_of_signals_are_sent() {
        for (signal, is_valid) in [(0, false), (1, true), (MAX_SIGNAL, true), (65, false)] {
            assert_eq!(check_signal(signal).is_ok(), is_valid, "{signal}");
        }
    }
}
