//! One execution: what it is, which states it goes through, and what can be said of it. Pure: no clock, no
//! I/O, no knowledge of other executions.

mod outcome;
mod record;
mod request;
mod resources;
mod spec;
mod state;
mod stdin;
mod submission;

pub use outcome::{End, Loss};
pub use record::{listed, shown_command};
pub use request::{Checked, MAX_KILL_GRACE_MS, RequestLimits, check};
pub use resources::{check_limits, ensure_enforceable};
pub use spec::{assignment, recall};
pub use state::{Action, Ending, Event, Impossible, State};
pub use stdin::{Stdin, StdinReply, Write};
pub use submission::Submission;

/// An execution as the engine keeps it.
#[derive(Debug)]
pub struct Execution {
    /// What does not change any more.
    pub submission: Submission,
    /// Where it stands.
    pub state: State,
    /// Its standard input.
    pub stdin: Stdin,
}

/// The state in which the word of a shim leaves an execution.
#[cfg(test)]
pub(crate) fn ended(report: escher_launcher::ipc::wire::ExitReport) -> escher_protocol::Status {
    outcome::reported(report, &escher_protocol::ResourceLimits::default()).status
}

impl Execution {
    /// An execution that stands there.
    #[must_use]
    pub fn in_state(submission: Submission, state: State) -> Self {
        Execution {
            stdin: Stdin::new(submission.request.stdin),
            submission,
            state,
        }
    }
}
