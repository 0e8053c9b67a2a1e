//! The states of an execution and the transitions between them.
//!
//! ```text
//! Queued ──admit──▶ Launching ──started──▶ Running ──exited──▶ Finished
//!    └──cancel──▶ Finished   └──exited, lost──▶ Finished ◀──lost──┘
//! ```
//!
//! To clients `Launching` is `pending`: the execution is admitted, and its shim has not reported yet that the program
//! runs.

use escher_launcher::ipc::wire::ExitReport;
use escher_protocol::message::CancelOutcome;
use escher_protocol::{CancelMode, Canceller, ResourceLimits, Status, Timestamp};

use super::outcome::{self, End, Loss};

/// The state of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits for a free slot.
    Queued,
    /// It has a slot. Its launch follows once this is committed.
    Launching {
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
    Finished(Box<End>),
}

/// A cancel of a launched execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The first canceller.
    pub by: Canceller,
    /// Whether to send SIGKILL at once instead of the kill ladder.
    pub kill: bool,
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
    /// A cancel was requested.
    Cancel {
        /// Who.
        by: Canceller,
        /// How.
        mode: CancelMode,
        /// When.
        at: Timestamp,
    },
}

/// What has to be done after a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Launch it.
    Launch,
    /// Send the cancel to its shim.
    End {
        /// For whom.
        by: Canceller,
        /// SIGKILL at once.
        kill: bool,
        /// The answer to the cancel.
        reply: CancelOutcome,
    },
    /// A cancel that has nothing to do.
    Reply(CancelOutcome),
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
                *self = State::Launching { cancel: None };
                Ok(Action::Launch)
            }
            (State::Queued, Transition::Cancel { by, at, .. }) => {
                *self = State::Finished(Box::new(outcome::withdrawn(by, at)));
                Ok(Action::Reply(CancelOutcome::Withdrawn))
            }
            (State::Launching { cancel }, Transition::Started { pid, at }) => {
                *self = State::Running {
                    pid,
                    started_at: at,
                    cancel: cancel.take(),
                };
                Ok(Action::None)
            }
            (
                State::Launching { .. } | State::Running { .. },
                Transition::Exited { report, limits },
            ) => {
                *self = State::Finished(Box::new(outcome::from_report(*report, &limits)));
                Ok(Action::None)
            }
            (State::Launching { .. } | State::Running { .. }, Transition::Lost { at, loss }) => {
                let end = outcome::lost(self.started_at(), at, loss);
                *self = State::Finished(Box::new(end));
                Ok(Action::None)
            }
            (
                State::Launching { cancel } | State::Running { cancel, .. },
                Transition::Cancel { by, mode, .. },
            ) => Ok(request_end(cancel, by, mode)),
            (State::Finished(end), Transition::Cancel { .. }) => {
                Ok(Action::Reply(CancelOutcome::AlreadyFinished(end.status)))
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
            State::Queued | State::Launching { .. } => Status::Pending,
            State::Running { .. } => Status::Running,
            State::Finished(end) => end.status,
        }
    }

    /// Returns when the program was started, if it was.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            State::Queued | State::Launching { .. } => None,
            State::Running { started_at, .. } => Some(*started_at),
            State::Finished(end) => end.started_at,
        }
    }

    /// Returns the cancel in progress, if there is one.
    #[must_use]
    pub fn ending(&self) -> Option<&CancelRequest> {
        match self {
            State::Launching { cancel } | State::Running { cancel, .. } => cancel.as_ref(),
            State::Queued | State::Finished(_) => None,
        }
    }

    /// Returns whether it is launched, or about to be, and has not finished.
    #[must_use]
    pub fn is_launched(&self) -> bool {
        matches!(self, State::Launching { .. } | State::Running { .. })
    }

    /// Returns how it ended, if it has.
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

impl Transition {
    fn name(&self) -> &'static str {
        match self {
            Transition::Admit => "admission",
            Transition::Started { .. } => "a start",
            Transition::Exited { .. } => "an exit",
            Transition::Lost { .. } => "the loss of its shim",
            Transition::Cancel { .. } => "a cancel",
        }
    }
}

/// Requests the end: the first cancel begins the kill ladder, a later one can only skip to SIGKILL.
fn request_end(cancel: &mut Option<CancelRequest>, by: Canceller, mode: CancelMode) -> Action {
    let kill = mode == CancelMode::Kill;
    match cancel {
        None => {
            let by_whom = by.clone();
            *cancel = Some(CancelRequest { by: by_whom, kill });
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

    fn by_host() -> CancelRequest {
        CancelRequest {
            by: Canceller::Host,
            kill: false,
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
            cancel(CancelMode::Graceful),
            cancel(CancelMode::Kill),
        ]
    }

    /// Every state × transition: the name of the next state and the action, or `-` for invalid.
    #[test]
    fn every_transition_from_every_state() {
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
            for (transition, expected) in transitions().into_iter().zip(row) {
                let mut after = state.clone();
                let found = match after.apply(transition.clone()) {
                    Err(_) => {
                        assert_eq!(after, state, "an invalid transition changes nothing");
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
                assert_eq!(found, expected, "{state:?} meets {transition:?}");
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
    fn a_cancel_during_the_launch_is_kept_when_the_program_runs() {
        let mut state = State::Launching {
            cancel: Some(by_host()),
        };
        state.apply(Transition::Started { pid: 7, at: AT }).unwrap();
        assert_eq!(state, running(Some(by_host())));
    }
}
