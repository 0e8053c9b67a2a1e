//! Passes the signals that `run` receives on to its command.

use std::collections::BTreeMap;
use std::future::pending;

use escher_client::protocol::SignalAnswer;
use escher_client::{CancelMode, Client, Error, ErrorCode, Submitted};
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::context::{ANSWER_TIMEOUT, Context, print_notice};
use crate::failure::Failure;
use crate::interruption::{Interruption, Reaction};
use crate::signals::CaughtSignals;

/// What a request for a signal has come to.
type Answer = Result<Option<Signal>, Error>;

/// Whether the command has been followed to its end.
pub(crate) enum Followed<T> {
    ToItsEnd(T),
    /// escherctl leaves the command, because of this signal.
    Left(Signal),
}

/// The signals of one `run`.
pub(crate) struct SignalRelay<'a> {
    context: &'a Context,
    interruption: Interruption,
    /// What was decided before escherd had accepted the command.
    postponed: Vec<Reaction>,
    requests: JoinSet<(u64, Answer)>,
    /// Since when escherd is unavailable, if it is.
    outage: watch::Receiver<Option<Instant>>,
    /// When the requests that are not answered were made.
    unanswered: BTreeMap<u64, Instant>,
    made_requests: u64,
    /// Whether it was said that escherd does not answer.
    has_told_no_answer: bool,
    /// The signal instead of which the command was cancelled, since no program could get it.
    cancelled_for: Option<Signal>,
}

impl<'a> SignalRelay<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        SignalRelay {
            context,
            interruption: Interruption::default(),
            postponed: Vec::new(),
            requests: JoinSet::new(),
            outage: context.watch_outage(),
            unanswered: BTreeMap::new(),
            made_requests: 0,
            has_told_no_answer: false,
            cancelled_for: None,
        }
    }

    /// Awaits the submission. A signal meanwhile is for the command, which may have been accepted, and is
    /// passed on once its id is known.
    pub(crate) async fn during_submission<T>(
        &mut self,
        signals: &mut CaughtSignals,
        submission: impl Future<Output = T>,
    ) -> Followed<T> {
        let mut submission = std::pin::pin!(submission);
        let mut first_signal = None;
        loop {
            tokio::select! {
                submitted = &mut submission => return Followed::ToItsEnd(submitted),
                signal = signals.next() => {
                    let since = *first_signal.get_or_insert_with(Instant::now);
                    match self.interruption.react(signal, is_overdue(since)) {
                        Reaction::Leave => return Followed::Left(signal),
                        reaction => self.postponed.push(reaction),
                    }
                }
                () = until_overdue(first_signal), if !self.has_told_no_answer => self.tell_no_answer(),
            }
        }
    }

    /// Awaits the end of the command, and passes on signals meanwhile; then the answers to them.
    pub(crate) async fn until<T>(
        &mut self,
        client: &Client,
        submitted: Submitted,
        signals: &mut CaughtSignals,
        end: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Followed<T>, Failure> {
        let mut end = std::pin::pin!(end);
        for reaction in std::mem::take(&mut self.postponed) {
            self.carry_out(client, submitted, reaction);
        }
        let ended = loop {
            let unanswered_since = self.unanswered_since();
            tokio::select! {
                ended = &mut end => break ended?,
                signal = signals.next() => {
                    let is_unanswered = self.unanswered_since().is_some_and(is_overdue);
                    match self.interruption.react(signal, is_unanswered) {
                        Reaction::Leave => return Ok(Followed::Left(signal)),
                        reaction => self.carry_out(client, submitted, reaction),
                    }
                }
                Some(Ok((request, answer))) = self.requests.join_next() => {
                    self.note_answer(request, answer);
                }
                // The next round looks at it.
                Ok(()) = self.outage.changed() => {}
                () = until_overdue(unanswered_since), if !self.has_told_no_answer => self.tell_no_answer(),
            }
        };
        self.await_last_answers(signals).await;
        Ok(Followed::ToItsEnd(ended))
    }

    /// Awaits the answers that have not come before the end of the command. That two answers come in a certain order
    /// nobody promises, and one of these may say that the command was cancelled instead of a signal. The wait
    /// ends with the next signal, or when escherd does not answer.
    async fn await_last_answers(&mut self, signals: &mut CaughtSignals) {
        while let Some(since) = self.unanswered.values().copied().min() {
            tokio::select! {
                Some(Ok((request, answer))) = self.requests.join_next() => {
                    self.note_answer(request, answer);
                }
                _ = signals.next() => return,
                () = until_overdue(Some(since)) => return,
            }
        }
    }

    /// Whether `run` has received this signal.
    pub(crate) fn has_received(&self, signal: i32) -> bool {
        self.interruption.has_received(signal)
    }

    /// The signal instead of which the command was cancelled before a program could get it.
    pub(crate) fn cancelled_for(&self) -> Option<Signal> {
        self.cancelled_for
    }

    fn carry_out(&mut self, client: &Client, submitted: Submitted, reaction: Reaction) {
        let (client, id) = (client.clone(), submitted.id);
        let request = self.made_requests;
        self.made_requests += 1;
        let what = match reaction {
            Reaction::Interrupt(signal) => {
                self.requests.spawn(async move {
                    let answer = client.signal_group(id, signal as i32).await;
                    let cancelled_for =
                        |answer| (answer == SignalAnswer::Cancelled).then_some(signal);
                    (request, answer.map(cancelled_for))
                });
                format!("sent {} to the command", signal.as_str())
            }
            Reaction::Forward(signal) => {
                self.requests.spawn(async move {
                    let answer = client.signal(id, signal as i32).await;
                    (request, answer.map(|()| None))
                });
                format!("sent {} to the command", signal.as_str())
            }
            Reaction::Cancel(mode) => {
                self.requests.spawn(async move {
                    let answer = client.cancel(id, mode).await;
                    (request, answer.map(|_| None))
                });
                match mode {
                    CancelMode::Graceful | CancelMode::Signal(_) => {
                        "cancelling the command".to_owned()
                    }
                    CancelMode::Kill => "killing the command".to_owned(),
                }
            }
            Reaction::Leave => return,
        };
        self.unanswered.insert(request, Instant::now());
        self.tell(&format!("{what}; {}", self.interruption.next_step()));
    }

    fn note_answer(&mut self, request: u64, answer: Answer) {
        self.unanswered.remove(&request);
        match answer {
            Ok(cancelled_for) => self.cancelled_for = self.cancelled_for.or(cancelled_for),
            // It has ended meanwhile, which is about to be told.
            Err(Error::Api(error)) if is_over(error.code) => {}
            Err(Error::Api(error)) => {
                print_notice(&format!("the signal has no effect: {}", error.message));
            }
            // The connection is lost, which the request for the end reports.
            Err(_) => {}
        }
    }

    /// Returns since when escherd has not answered, if there is something that it has to.
    fn unanswered_since(&self) -> Option<Instant> {
        let request = self.unanswered.values().copied().min();
        let outage = *self.outage.borrow();
        request.into_iter().chain(outage).min()
    }

    fn tell_no_answer(&mut self) {
        self.has_told_no_answer = true;
        self.tell("escherd does not answer; Ctrl-C leaves the command running");
    }

    /// Tells a person at a terminal.
    fn tell(&self, message: &str) {
        if self.context.is_interactive() {
            print_notice(message);
        }
    }
}

fn is_overdue(since: Instant) -> bool {
    since.elapsed() >= ANSWER_TIMEOUT
}

/// Waits until escherd has not answered for too long.
async fn until_overdue(since: Option<Instant>) {
    match since {
        Some(since) => sleep_until(since + ANSWER_TIMEOUT).await,
        None => pending().await,
    }
}

fn is_over(code: ErrorCode) -> bool {
    [ErrorCode::NOT_FOUND, ErrorCode::NOT_RUNNING].contains(&code)
}
