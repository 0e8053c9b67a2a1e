//! The states of an execution and the transitions between them.
//!
//! ```text
//! Queued ──admit──▶ Admitted ──started──▶ Running ──exited──▶ Finished
//!    └──cancel──▶ Finished   └──withdraw, exited, lost──▶ Finished ◀──lost──┘
//! ```
//!
//! To clients `Admitted` is `pending`: no shim has reported yet that the program runs.

use escher_launcher::ipc::wire::ExitReport;
use escher_protocol::message::CancelAnswer;
use escher_protocol::{CancelMode, Canceller, ResourceLimits, Status, Timestamp};

use super::outcome::{self, FinalState, Loss};

/// The state of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits for a free slot.
    Queued,
    /// It has a slot. It is launched once this is committed.
    Admitted {
        /// The cancel that was requested, if any.
        cancel: Option<CancelRequest>,
    },
    /// Its program runs.
    Running {
        /// Pid of the main process.
        pid: u32,
        /// When the main process was made.
        started_at: Timestamp,
        /// The cancel that was requested, if any.
        cancel: Option<CancelRequest>,
    },
    /// It has finished.
    Finished(Box<FinalState>),
}

/// A cancel of an admitted execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The first canceller.
    pub by: Canceller,
    /// By which signal it is to end.
    pub mode: CancelMode,
}

/// Something that moves an execution to another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// A slot is free for it.
    Admit,
    /// Its shim reports that the program runs.
    Started {
        /// Pid of the main process.
        pid: u32,
        /// When the main process was made.
        at: Timestamp,
    },
    /// Its shim reports its end.
    Exited {
        /// What the shim has seen.
        report: Box<ExitReport>,
        /// What it was allowed to use.
        limits: ResourceLimits,
    },
    /// Its shim died without a report.
    Lost {
        /// When escherd noticed it.
        at: Timestamp,
        /// The cause.
        loss: Loss,
    },
    /// escherd has died at each of its launches.
    LaunchAbandoned {
        /// How often.
        attempts: u32,
        /// When that was found.
        at: Timestamp,
    },
    /// The store has lost its request before the launch.
    RequestUnreadable {
        /// When that was found.
        at: Timestamp,
    },
    /// escherd has died before the launch, and with it the inherited environment.
    EnvironmentLost {
        /// When that was found.
        at: Timestamp,
    },
    /// It is cancelled, and no shim has it.
    Withdraw {
        /// The canceller.
        by: Canceller,
        /// When it was withdrawn.
        at: Timestamp,
    },
    /// A cancel was requested.
    Cancel {
        /// The canceller.
        by: Canceller,
        /// By which signal it is to end.
        mode: CancelMode,
        /// The time of the request.
        at: Timestamp,
    },
}

/// What has to be done after a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Launch it, once its admission is committed.
    Launch,
    /// Send a cancel to its shim.
    SendCancel {
        /// The canceller.
        by: Canceller,
        /// By which signal it is to end.
        mode: CancelMode,
        /// The answer to the client.
        answer: CancelAnswer,
    },
    /// Answer a cancel that has nothing to send.
    AnswerCancel(CancelAnswer),
}

/// The error for a transition that is not valid in this state, which is left unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{transition} is not valid for an execution that is {state}")]
pub struct InvalidTransition {
    state: &'static str,
    transition: &'static str,
}

impl State {
    /// Applies a transition.
    ///
    /// # Errors
    /// [`InvalidTransition`] if it is not valid in this state, which is then unchanged.
    pub fn apply(&mut self, transition: Transition) -> Result<Action, InvalidTransition> {
        match (&mut *self, transition) {
            (State::Queued, Transition::Admit) => {
                *self = State::Admitted { cancel: None };
                Ok(Action::Launch)
            }
            (State::Queued, Transition::Cancel { by, at, .. })
            | (State::Admitted { .. }, Transition::Withdraw { by, at }) => {
                *self = State::Finished(Box::new(outcome::withdrawn(by, at)));
                Ok(Action::AnswerCancel(CancelAnswer::Withdrawn))
            }
            (State::Admitted { cancel }, Transition::Started { pid, at }) => {
                *self = State::Running {
                    pid,
                    started_at: at,
                    cancel: cancel.take(),
                };
                Ok(Action::None)
            }
            (
                State::Admitted { .. } | State::Running { .. },
                Transition::Exited { report, limits },
            ) => {
                *self = State::Finished(Box::new(outcome::from_report(*report, &limits)));
                Ok(Action::None)
            }
            (State::Admitted { .. } | State::Running { .. }, Transition::Lost { at, loss }) => {
                let lost = outcome::lost(self.started_at(), at, loss);
                *self = State::Finished(Box::new(lost));
                Ok(Action::None)
            }
            (State::Admitted { .. }, Transition::LaunchAbandoned { attempts, at }) => {
                *self = State::Finished(Box::new(outcome::launch_abandoned(attempts, at)));
                Ok(Action::None)
            }
            (State::Admitted { .. }, Transition::RequestUnreadable { at }) => {
                *self = State::Finished(Box::new(outcome::request_unreadable(at)));
                Ok(Action::None)
            }
            (State::Admitted { .. }, Transition::EnvironmentLost { at }) => {
                *self = State::Finished(Box::new(outcome::environment_lost(at)));
                Ok(Action::None)
            }
            (
                State::Admitted { cancel } | State::Running { cancel, .. },
                Transition::Cancel { by, mode, .. },
            ) => Ok(request_cancel(cancel, by, mode)),
            (State::Finished(finished), Transition::Cancel { .. }) => {
                let answer = CancelAnswer::AlreadyFinished(finished.status);
                Ok(Action::AnswerCancel(answer))
            }
            (state, transition) => Err(InvalidTransition {
                state: state.name(),
                transition: transition.name(),
            }),
        }
    }

    /// Returns the status that clients see.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            State::Queued | State::Admitted { .. } => Status::Pending,
            State::Running { .. } => Status::Running,
            State::Finished(finished) => finished.status,
        }
    }

    /// Returns when the program was started, if it was.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            State::Queued | State::Admitted { .. } => None,
            State::Running { started_at, .. } => Some(*started_at),
            State::Finished(finished) => finished.started_at,
        }
    }

    /// Returns the cancel that was requested, if it has not finished since.
    #[must_use]
    pub fn cancel_request(&self) -> Option<&CancelRequest> {
        match self {
            State::Admitted { cancel } | State::Running { cancel, .. } => cancel.as_ref(),
            State::Queued | State::Finished(_) => None,
        }
    }

    /// Returns whether its program runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, State::Running { .. })
    }

    /// Returns whether it occupies one of the slots that bound how many executions run at once.
    #[must_use]
    pub fn has_slot(&self) -> bool {
        matches!(self, State::Admitted { .. } | State::Running { .. })
    }

    /// Returns its final state, if it has finished.
    #[must_use]
    pub fn final_state(&self) -> Option<&FinalState> {
        match self {
            State::Finished(finished) => Some(finished),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Admitted { .. } => "admitted",
            State::Running { .. } => "running",
            State::Finished(_) => "finished",
        }
    }
}

impl Transition {
    fn name(&self) -> &'static str {
        match self {
            Transition::Admit => "admission",
            Transition::Started { .. } => "a start",
            Transition::Exited { .. } => "an exit",
            Transition::Lost { .. } => "the loss of its shim",
            Transition::LaunchAbandoned { .. } => "the end of its launches",
            Transition::RequestUnreadable { .. } => "the loss of its request",
            Transition::EnvironmentLost { .. } => "the loss of its environment",
            Transition::Withdraw { .. } => "a withdrawal",
            Transition::Cancel { .. } => "a cancel",
        }
    }
}

/// Adds a cancel to those before: the first begins the kill ladder, a later one can only skip to SIGKILL.
fn request_cancel(cancel: &mut Option<CancelRequest>, by: Canceller, mode: CancelMode) -> Action {
    match cancel {
        None => {
            let by_whom = by.clone();
            *cancel = Some(CancelRequest { by: by_whom, mode });
            let answer = CancelAnswer::Ending;
            Action::SendCancel { by, mode, answer }
        }
        Some(earlier) if mode == CancelMode::Kill => {
            earlier.mode = mode;
            let answer = CancelAnswer::AlreadyEnding;
            Action::SendCancel { by, mode, answer }
        }
        Some(_) => Action::AnswerCancel(CancelAnswer::AlreadyEnding),
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
            State::Admitted { cancel: None },
            State::Admitted {
                cancel: Some(by_host()),
            },
            running(None),
            running(Some(by_host())),
            State::Finished(Box::new(outcome::withdrawn(Canceller::Host, AT))),
        ]
    }

    fn by_host() -> CancelRequest {
        CancelRequest {
            by: Canceller::Host,
            mode: CancelMode::Graceful,
        }
    }

    fn running(cancel: Option<CancelRequest>) -> State {
        State::Running {
            pid: 7,
            started_at: AT,
            cancel,
        }
    }

    fn transitions() -> Vec<Transition> {
        let cancel = |mode| Transition::Cancel {
            by: Canceller::Host,
            mode,
            at: AT,
        };
        vec![
            Transition::Admit,
            Transition::Started { pid: 7, at: AT },
            Transition::Exited {
                report: Box::new(ExitReport::new(
                    ExecutionId::from_bytes([1; 16]),
                    FIRST_ATTEMPT,
                    Exit::Code(0),
                    AT,
                )),
                limits: ResourceLimits::default(),
            },
            Transition::Lost {
                at: AT,
                loss: Loss::HostWentDown,
            },
            Transition::LaunchAbandoned {
                attempts: 3,
                at: AT,
            },
            Transition::RequestUnreadable { at: AT },
            Transition::EnvironmentLost { at: AT },
            Transition::Withdraw {
                by: Canceller::Host,
                at: AT,
            },
            cancel(CancelMode::Graceful),
            cancel(CancelMode::Kill),
        ]
    }

    /// Every state × transition: the name of the next state and the action, or `-` for invalid.
    #[test]
    fn every_transition_from_every_state() {
        #[rustfmt::skip]
        let table = [
            // admit              started         exited            lost         abandoned      unreadable     environment    withdraw               cancel                       kill
            ["admitted Launch", "-",            "-",              "-",         "-",           "-",           "-",           "-",                   "cancelled Withdrawn",       "cancelled Withdrawn"],
            ["-",               "running None", "completed None", "lost None", "failed None", "failed None", "failed None", "cancelled Withdrawn", "admitted Cancel",           "admitted Kill"],
            ["-",               "running None", "completed None", "lost None", "failed None", "failed None", "failed None", "cancelled Withdrawn", "admitted AlreadyEnding",    "admitted Kill"],
            ["-",               "-",            "completed None", "lost None", "-",           "-",           "-",           "-",                   "running Cancel",            "running Kill"],
            ["-",               "-",            "completed None", "lost None", "-",           "-",           "-",           "-",                   "running AlreadyEnding",     "running Kill"],
            ["-",               "-",            "-",              "-",         "-",           "-",           "-",           "-",                   "cancelled AlreadyFinished", "cancelled AlreadyFinished"],
        ];
        for (state, row) in states().into_iter().zip(table) {
            for (transition, expected) in transitions().into_iter().zip(row) {
                let mut after = state.clone();
                let found = match after.apply(transition.clone()) {
                    Err(_) => {
                        assert_eq!(after, state, "an invalid transition changes nothing");
                        "-".to_owned()
                    }
                    Ok(action) => {
                        let name = match &after {
                            State::Finished(finished) => finished.status.name(),
                            other => other.name(),
                        };
                        format!("{name} {}", action_name(&action))
                    }
                };
                assert_eq!(found, expected, "{state:?} meets {transition:?}");
            }
        }
    }

    fn action_name(action: &Action) -> &'static str {
        match action {
            Action::None => "None",
            Action::Launch => "Launch",
            Action::SendCancel { mode, .. } => match mode {
                CancelMode::Kill => "Kill",
                CancelMode::Graceful | CancelMode::Signal(_) => "Cancel",
            },
            Action::AnswerCancel(CancelAnswer::Withdrawn) => "Withdrawn",
            Action::AnswerCancel(CancelAnswer::AlreadyEnding) => "AlreadyEnding",
            Action::AnswerCancel(CancelAnswer::AlreadyFinished(_)) => "AlreadyFinished",
            Action::AnswerCancel(CancelAnswer::Ending) => "Ending",
        }
    }

    #[test]
    fn a_cancel_before_the_start_is_kept_when_the_program_runs() {
        let mut state = State::Admitted {
            cancel: Some(by_host()),
        };
        state.apply(Transition::Started { pid: 7, at: AT }).unwrap();
        assert_eq!(state, running(Some(by_host())));
    }
}
