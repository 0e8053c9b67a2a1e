//! The states of an execution and the ways between them.
//!
//! ```text
//! Queued ──admit──▶ Launching ──started──▶ Running ──exited──▶ Finished
//!    └──cancel──▶ Finished   └──exited, lost──▶ Finished ◀──lost──┘
//! ```
//!
//! `Launching` is `pending` to the outside: the launch has been handed to a shim, and nobody has seen the
//! program run yet.

use escher_launcher::ipc::wire::ExitReport;
use escher_protocol::message::CancelOutcome;
use escher_protocol::{CancelMode, Canceller, ResourceLimits, Status, Timestamp};

use super::outcome::{self, End, Loss};

/// Where an execution stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits for its turn.
    Queued,
    /// Its launch is on the way to a shim.
    Launching {
        /// Who has asked for its end already.
        cancel: Option<Ending>,
    },
    /// Its program runs.
    Running {
        /// Its main process.
        pid: u32,
        /// Since when.
        started_at: Timestamp,
        /// Who has asked for its end.
        cancel: Option<Ending>,
    },
    /// It is over.
    Finished(Box<End>),
}

/// An end that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// By whom first.
    pub by: Canceller,
    /// SIGKILL at once; else the kill ladder.
    pub kill: bool,
}

/// What can happen to an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its turn has come.
    Admit,
    /// Its shim reports that the program runs.
    Started {
        /// The main process.
        pid: u32,
        /// Since when.
        at: Timestamp,
    },
    /// Its shim reports its end.
    Exited {
        /// What the shim has seen.
        report: Box<ExitReport>,
        /// What it was allowed to use.
        limits: ResourceLimits,
    },
    /// Its shim is gone without a report.
    Lost {
        /// When that was noticed.
        at: Timestamp,
        /// How that came.
        loss: Loss,
    },
    /// Somebody wants its end.
    Cancel {
        /// Who.
        by: Canceller,
        /// How.
        mode: CancelMode,
        /// When.
        at: Timestamp,
    },
}

/// What has to follow a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Hand it to a shim.
    Launch,
    /// Tell its shim to end it.
    End {
        /// For whom.
        by: Canceller,
        /// SIGKILL at once.
        kill: bool,
        /// What the one who asked is told.
        reply: CancelOutcome,
    },
    /// A cancel that has nothing to do.
    Reply(CancelOutcome),
}

/// An event that cannot happen in this state. The state stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to an execution that is {state}")]
pub struct Impossible {
    state: &'static str,
    event: &'static str,
}

impl State {
    /// Goes on by `event`.
    ///
    /// # Errors
    /// [`Impossible`] where there is no such way; nothing has changed then.
    pub fn apply(&mut self, event: Event) -> Result<Action, Impossible> {
        match (&mut *self, event) {
            (State::Queued, Event::Admit) => {
                *self = State::Launching { cancel: None };
                Ok(Action::Launch)
            }
            (State::Queued, Event::Cancel { by, at, .. }) => {
                *self = State::Finished(Box::new(outcome::withdrawn(by, at)));
                Ok(Action::Reply(CancelOutcome::Withdrawn))
            }
            (State::Launching { cancel }, Event::Started { pid, at }) => {
                *self = State::Running {
                    pid,
                    started_at: at,
                    cancel: cancel.take(),
                };
                Ok(Action::None)
            }
            (State::Launching { .. } | State::Running { .. }, Event::Exited { report, limits }) => {
                *self = State::Finished(Box::new(outcome::reported(*report, &limits)));
                Ok(Action::None)
            }
            (State::Launching { .. } | State::Running { .. }, Event::Lost { at, loss }) => {
                let end = outcome::lost(self.started_at(), at, loss);
                *self = State::Finished(Box::new(end));
                Ok(Action::None)
            }
            (
                State::Launching { cancel } | State::Running { cancel, .. },
                Event::Cancel { by, mode, .. },
            ) => Ok(request_end(cancel, by, mode)),
            (State::Finished(end), Event::Cancel { .. }) => {
                Ok(Action::Reply(CancelOutcome::AlreadyFinished(end.status)))
            }
            (state, event) => Err(Impossible {
                state: state.name(),
                event: event.name(),
            }),
        }
    }

    /// The state as the outside knows it.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            State::Queued | State::Launching { .. } => Status::Pending,
            State::Running { .. } => Status::Running,
            State::Finished(end) => end.status,
        }
    }

    /// Since when the program runs or ran.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            State::Queued | State::Launching { .. } => None,
            State::Running { started_at, .. } => Some(*started_at),
            State::Finished(end) => end.started_at,
        }
    }

    /// Whose end of it is under way, while it is with a shim.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        match self {
            State::Launching { cancel } | State::Running { cancel, .. } => cancel.as_ref(),
            State::Queued | State::Finished(_) => None,
        }
    }

    /// Whether it was handed to a shim, or is about to be, and is not over.
    #[must_use]
    pub fn is_launched(&self) -> bool {
        matches!(self, State::Launching { .. } | State::Running { .. })
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        match self {
            State::Finished(end) => Some(end),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Launching { .. } => "launching",
            State::Running { .. } => "running",
            State::Finished(_) => "finished",
        }
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Event::Admit => "admission",
            Event::Started { .. } => "a start",
            Event::Exited { .. } => "an exit",
            Event::Lost { .. } => "the loss of its shim",
            Event::Cancel { .. } => "a cancel",
        }
    }
}

/// The first who asks begins the ladder; a later one can only turn it into a kill.
fn request_end(cancel: &mut Option<Ending>, by: Canceller, mode: CancelMode) -> Action {
    let kill = mode == CancelMode::Kill;
    match cancel {
        None => {
            let by_whom = by.clone();
            *cancel = Some(Ending { by: by_whom, kill });
            let reply = CancelOutcome::Ending;
            Action::End { by, kill, reply }
        }
        Some(ending) if kill => {
            ending.kill = true;
            let reply = CancelOutcome::AlreadyEnding;
            Action::End { by, kill, reply }
        }
        Some(_) => Action::Reply(CancelOutcome::AlreadyEnding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::wire::FIRST_ATTEMPT;
    use escher_protocol::{ExecutionId, Exit};

    const AT: Timestamp = Timestamp::from_micros(5);

    fn states() -> Vec<State> {
        vec![
            State::Queued,
            State::Launching { cancel: None },
            State::Launching {
                cancel: Some(by_host()),
            },
            running(None),
            running(Some(by_host())),
            State::Finished(Box::new(outcome::withdrawn(Canceller::Host, AT))),
        ]
    }

    fn by_host() -> Ending {
        Ending {
            by: Canceller::Host,
            kill: false,
        }
    }

    fn running(cancel: Option<Ending>) -> State {
        State::Running {
            pid: 7,
            started_at: AT,
            cancel,
        }
    }

    fn events() -> Vec<Event> {
        let cancel = |mode| Event::Cancel {
            by: Canceller::Host,
            mode,
            at: AT,
        };
        vec![
            Event::Admit,
            Event::Started { pid: 7, at: AT },
            Event::Exited {
                report: Box::new(ExitReport::new(
                    ExecutionId::from_bytes([1; 16]),
                    FIRST_ATTEMPT,
                    Exit::Code(0),
                    AT,
                )),
                limits: ResourceLimits::default(),
            },
            Event::Lost {
                at: AT,
                loss: Loss::HostWentDown,
            },
            cancel(CancelMode::Graceful),
            cancel(CancelMode::Kill),
        ]
    }

    /// Every state × event: the name of the state it leads to and the action, or `-` for impossible.
    #[test]
    fn every_state_meets_every_event() {
        #[rustfmt::skip]
        let table = [
            // admit              started             exited               lost              cancel                      kill
            ["launching Launch",  "-",                "-",                 "-",              "cancelled Withdrawn",      "cancelled Withdrawn"],
            ["-",                 "running None",     "completed None",    "lost None",      "launching End",            "launching Kill"],
            ["-",                 "running None",     "completed None",    "lost None",      "launching AlreadyEnding",  "launching Kill"],
            ["-",                 "-",                "completed None",    "lost None",      "running End",              "running Kill"],
            ["-",                 "-",                "completed None",    "lost None",      "running AlreadyEnding",    "running Kill"],
            ["-",                 "-",                "-",                 "-",              "cancelled AlreadyFinished","cancelled AlreadyFinished"],
        ];
        for (state, row) in states().into_iter().zip(table) {
            for (event, expected) in events().into_iter().zip(row) {
                let mut after = state.clone();
                let found = match after.apply(event.clone()) {
                    Err(_) => {
                        assert_eq!(after, state, "an impossible event changes nothing");
                        "-".to_owned()
                    }
                    Ok(action) => {
                        let name = match &after {
                            State::Finished(end) => end.status.name(),
                            other => other.name(),
                        };
                        format!("{name} {}", action_name(&action))
                    }
                };
                assert_eq!(found, expected, "{state:?} meets {event:?}");
            }
        }
    }

    fn action_name(action: &Action) -> &'static str {
        match action {
            Action::None => "None",
            Action::Launch => "Launch",
            Action::End { kill: true, .. } => "Kill",
            Action::End { kill: false, .. } => "End",
            Action::Reply(CancelOutcome::Withdrawn) => "Withdrawn",
            Action::Reply(CancelOutcome::AlreadyEnding) => "AlreadyEnding",
            Action::Reply(CancelOutcome::AlreadyFinished(_)) => "AlreadyFinished",
            Action::Reply(CancelOutcome::Ending) => "Ending",
        }
    }

    #[test]
    fn a_cancel_during_the_launch_is_remembered_when_it_runs() {
        let mut state = State::Launching {
            cancel: Some(by_host()),
        };
        state.apply(Event::Started { pid: 7, at: AT }).unwrap();
        assert_eq!(state, running(Some(by_host())));
    }
}
