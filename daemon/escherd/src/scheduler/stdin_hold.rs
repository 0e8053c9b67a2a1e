//! Who holds the standard input of an execution, and when nobody has held it for too long.
//!
//! A client that feeds a command holds its input. So it is noticed when the client is killed: an input that nobody holds is
//! lost after the time that the request says. A command must not take a part of its input for all of it.

use std::time::{Duration, Instant};

use escher_protocol::execution::{OnStdinLost, StdinLost};
use escher_protocol::{ApiError, CancelMode, Canceller, ErrorCode, ExecutionId, Timestamp};
use tokio::sync::oneshot;

use super::waiters::add_waiter;
use super::{Entry, Scheduler};

/// Least time until the first client holds an input: the request to hold it follows the submission.
const FIRST_HOLD_TIMEOUT: Duration = Duration::from_secs(60);

/// An input that was given to a client.
#[derive(Debug)]
pub struct HeldStdin {
    /// The execution.
    pub id: ExecutionId,
    /// Where the next byte belongs.
    pub offset: u64,
    /// Completes, with an error, once the input is over.
    pub over: oneshot::Receiver<()>,
    /// Tells this holder from those before and after it.
    pub token: u64,
}

/// What comes of a request to hold an input.
#[derive(Debug)]
pub enum HoldAnswer {
    /// The client holds it.
    Held(HeldStdin),
    /// Another client holds it.
    Taken {
        /// The execution.
        id: ExecutionId,
        /// Completes, with an error, once that has given it up.
        released: oneshot::Receiver<()>,
    },
}

/// Who holds an input, and who waits for that.
#[derive(Debug, Default)]
pub(super) struct StdinHolders {
    holder: Option<Holder>,
    /// Clients that wait for the holder to give it up; dropped when it does.
    waiting: Vec<oneshot::Sender<()>>,
    /// When the input is lost, unless somebody holds it before.
    lost_at: Option<Instant>,
}

#[derive(Debug)]
struct Holder {
    token: u64,
    /// Dropped once the input is over.
    _over: oneshot::Sender<()>,
}

impl Scheduler {
    /// Gives a client the standard input of the execution `number`, unless another one holds it.
    ///
    /// # Errors
    /// `stdin-closed`.
    pub fn hold_stdin(&mut self, number: u64) -> Result<HoldAnswer, ApiError> {
        let token = self.last_stdin_holder + 1;
        let open = self.entries.get_mut(&number);
        let Some(entry) = open.filter(|entry| entry.execution.stdin.is_open()) else {
            let message = format!("the standard input of execution {number} is closed");
            return Err(ApiError::new(ErrorCode::STDIN_CLOSED, message));
        };
        if entry.stdin_hold.holder.is_some() {
            let (waiting, released) = oneshot::channel();
            add_waiter(&mut entry.stdin_hold.waiting, waiting);
            let id = entry.execution.submission.id;
            return Ok(HoldAnswer::Taken { id, released });
        }
        let (sender, over) = oneshot::channel();
        entry.stdin_hold.holder = Some(Holder {
            token,
            _over: sender,
        });
        let held = HeldStdin {
            id: entry.execution.submission.id,
            offset: entry.execution.stdin.offset(),
            over,
            token,
        };
        self.last_stdin_holder = token;
        self.set_stdin_deadline(number, None);
        Ok(HoldAnswer::Held(held))
    }

    /// Notes that a client has given up an input.
    pub fn release_stdin(&mut self, id: ExecutionId, token: u64) {
        if let Some(number) = self.number_of(id)
            && let Some(entry) = self.entries.get_mut(&number)
            && entry
                .stdin_hold
                .holder
                .take_if(|holder| holder.token == token)
                .is_some()
        {
            entry.stdin_hold.waiting.clear();
            self.await_stdin_holder(number, Duration::ZERO);
        }
    }

    /// Begins to wait for the first holder of an input.
    pub(super) fn await_first_stdin_holder(&mut self, number: u64) {
        self.await_stdin_holder(number, FIRST_HOLD_TIMEOUT);
    }

    /// Waits for the next holder of an input, for `least` at least.
    fn await_stdin_holder(&mut self, number: u64, least: Duration) {
        if let Some(entry) = self.entries.get(&number)
            && entry.execution.stdin.is_open()
            && let Some(after_ms) = entry.stdin_lost().after_ms
        {
            let timeout = Duration::from_millis(after_ms).max(least);
            // One that cannot be represented never comes.
            let lost_at = Instant::now().checked_add(timeout);
            self.set_stdin_deadline(number, lost_at);
        }
    }

    /// Ends the hold of an input that is over.
    pub(super) fn end_stdin_hold(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.stdin_hold.holder = None;
            entry.stdin_hold.waiting.clear();
        }
        self.set_stdin_deadline(number, None);
    }

    /// Returns when the next input is lost.
    #[must_use]
    pub fn next_stdin_deadline(&self) -> Option<Instant> {
        self.stdin_deadlines.first().map(|(at, _)| *at)
    }

    /// Loses the inputs that nobody has held for too long.
    pub fn lose_due_stdin(&mut self, instant: Instant, now: Timestamp) {
        while let Some((at, number)) = self.stdin_deadlines.first().copied()
            && at <= instant
        {
            self.set_stdin_deadline(number, None);
            self.stdin_deadlines.remove(&(at, number));
            self.lose_stdin(number, now);
        }
    }

    /// Does what the request of the execution `number` says about a lost input.
    pub fn lose_stdin(&mut self, number: u64, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if !entry.execution.stdin.is_open() {
            return;
        }
        match entry.stdin_lost().then {
            OnStdinLost::End => {
                entry.execution.stdin.end();
                self.end_stdin_hold(number);
                self.send_input(number);
            }
            OnStdinLost::Cancel => {
                self.close_stdin(number);
                let (by, mode) = (Canceller::StdinLost, CancelMode::Graceful);
                self.cancel_without_answer(number, by, mode, now);
            }
        }
    }

    fn set_stdin_deadline(&mut self, number: u64, lost_at: Option<Instant>) {
        if let Some(entry) = self.entries.get_mut(&number) {
            let earlier = std::mem::replace(&mut entry.stdin_hold.lost_at, lost_at);
            if let Some(earlier) = earlier {
                self.stdin_deadlines.remove(&(earlier, number));
            }
            self.stdin_deadlines.extend(lost_at.map(|at| (at, number)));
        }
    }
}

impl Entry {
    fn stdin_lost(&self) -> StdinLost {
        self.execution.submission.request.stdin_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::SubmitPermit;
    use crate::execution::StdinWrite;
    use crate::scheduler::Effect;
    use crate::scheduler::testbed::{at, commit, settings};
    use escher_launcher::ipc::wire::{FromShim, ToShim};
    use escher_protocol::{Command, ExecutionRequest, StdinMode};

    /// Returns a scheduler with an execution whose input is lost in this way, and its number and id.
    fn with_input(stdin_lost: StdinLost) -> (Scheduler, u64, ExecutionId) {
        let mut scheduler = Scheduler::new(settings(1));
        let request = ExecutionRequest {
            command: Command::Exec {
                argv: vec!["cat".into()],
            },
            stdin: StdinMode::Stream,
            stdin_lost,
            ..ExecutionRequest::default()
        };
        let permit = SubmitPermit::for_root();
        let submitted = scheduler.submit(permit, Box::new(request), at(0));
        commit(&mut scheduler, at(0));
        let submitted = submitted.unwrap().try_recv().unwrap().unwrap();
        let started = FromShim::Started { pid: 7, at: at(0) };
        scheduler.on_shim_message(submitted.id, started, at(0));
        commit(&mut scheduler, at(0));
        (scheduler, submitted.number, submitted.id)
    }

    fn lost_after(after_ms: Option<u64>, then: OnStdinLost) -> StdinLost {
        StdinLost { then, after_ms }
    }

    fn hold(scheduler: &mut Scheduler, number: u64) -> HeldStdin {
        match scheduler.hold_stdin(number) {
            Ok(HoldAnswer::Held(held)) => held,
            other => panic!("{other:?}"),
        }
    }

    fn messages(scheduler: &mut Scheduler) -> Vec<ToShim> {
        let effects = commit(scheduler, at(1)).into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Send(_, message) => Some(message),
                _ => None,
            })
            .collect()
    }

    const CANCEL: OnStdinLost = OnStdinLost::Cancel;

    #[test]
    fn an_input_without_a_holder_is_lost_after_its_time() {
        for then in [CANCEL, OnStdinLost::End] {
            let (mut scheduler, number, id) = with_input(lost_after(Some(0), then));
            let first = scheduler.next_stdin_deadline().unwrap();
            let least = Instant::now() + FIRST_HOLD_TIMEOUT - Duration::from_secs(30);
            assert!(first > least, "the first holder has time");
            let held = hold(&mut scheduler, number);
            assert_eq!((held.offset, scheduler.next_stdin_deadline()), (0, None));
            scheduler.release_stdin(id, held.token);
            let due = scheduler.next_stdin_deadline().unwrap();
            scheduler.lose_due_stdin(due - Duration::from_nanos(1), at(1));
            assert!(scheduler.entries[&number].execution.stdin.is_open());
            scheduler.lose_due_stdin(due, at(1));
            let expected = match then {
                OnStdinLost::Cancel => ToShim::Cancel {
                    by: Canceller::StdinLost,
                    mode: CancelMode::Graceful,
                },
                OnStdinLost::End => ToShim::Input {
                    data: "".into(),
                    end: true,
                },
            };
            assert_eq!(messages(&mut scheduler), [expected]);
            assert_eq!(scheduler.next_stdin_deadline(), None);
            let closed = scheduler.hold_stdin(number).unwrap_err();
            assert_eq!(closed.code, ErrorCode::STDIN_CLOSED);
        }
    }

    #[test]
    fn an_input_without_a_time_waits_for_the_next_writer() {
        let (mut scheduler, number, id) = with_input(lost_after(None, CANCEL));
        assert_eq!(scheduler.next_stdin_deadline(), None);
        let held = hold(&mut scheduler, number);
        scheduler.release_stdin(id, held.token);
        assert_eq!(scheduler.next_stdin_deadline(), None);
    }

    #[test]
    fn one_client_holds_an_input_and_learns_of_its_end() {
        let (mut scheduler, number, id) = with_input(lost_after(Some(1), CANCEL));
        let mut first = hold(&mut scheduler, number);
        let Ok(HoldAnswer::Taken { mut released, .. }) = scheduler.hold_stdin(number) else {
            panic!("held twice");
        };
        let pending = || Err(oneshot::error::TryRecvError::Empty);
        assert_eq!(released.try_recv(), pending());
        scheduler.release_stdin(id, first.token);
        let over = || Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(first.over.try_recv(), over());
        assert_eq!(released.try_recv(), over());
        let mut second = hold(&mut scheduler, number);
        // Too late, and for another holder.
        scheduler.release_stdin(id, first.token);
        assert!(matches!(
            scheduler.hold_stdin(number),
            Ok(HoldAnswer::Taken { .. })
        ));
        assert_eq!(second.over.try_recv(), pending());
        let write = StdinWrite {
            offset: 0,
            data: "x".into(),
            end: true,
        };
        let _answer = scheduler.write_stdin(number, write);
        assert_eq!(second.over.try_recv(), over());
        scheduler.release_stdin(id, second.token);
        assert_eq!(scheduler.next_stdin_deadline(), None);
    }
}
