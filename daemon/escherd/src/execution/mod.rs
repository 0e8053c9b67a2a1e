//! A single execution: its submission, its states, its record. Pure: no clock, no I/O, no other executions.

mod arguments;
mod assignment;
mod extent;
mod matcher;
mod outcome;
mod pattern;
mod process_limits;
mod record;
mod request;
mod resources;
#[cfg(test)]
pub(crate) mod sample;
mod selection;
mod start_error;
mod state;
mod stdin;

pub use arguments::check_arguments;
pub use assignment::{assignment, decode_submission_backup, search_path};
pub use extent::Extent;
pub use matcher::{Matcher, parse_uid};
pub use outcome::{FinalState, Loss};
pub use process_limits::{check_process_limits, ensure_process_limits_permitted};
pub use record::{
    MAX_PAGE_BYTES, kept_command, listed, memory_of, recorded_command, shown_command,
};
pub use request::{MAX_KILL_GRACE_MS, RequestLimits, Timeouts, check_request};
pub use resources::{
    check_limits, ensure_limits_enforceable, ensure_log_can_forget, ensure_user_limits_enforceable,
};
pub use selection::{check_selection, check_target};
pub use start_error::StartAttempt;
pub use state::{Action, CancelRequest, InvalidTransition, State, Transition};
pub use stdin::{Stdin, StdinAnswer, StdinWrite};

use escher_launcher::ipc::wire::MissingInterpreter;
use escher_protocol::{Blob, ExecutionId, ExecutionRequest, Exit, SentSignals, Timestamp, User};
use serde::{Deserialize, Serialize};

use crate::authz::Account;

/// An accepted request, with everything that is needed to run it, now or after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Id of the execution.
    pub id: ExecutionId,
    /// Number of the execution.
    pub number: u64,
    /// The request.
    pub request: Box<ExecutionRequest>,
    /// Its timeouts, from the request or the settings.
    pub timeouts: Timeouts,
    /// The user who submitted it.
    pub submitter: User,
    /// The account that the command runs as.
    pub account: Account,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// Path of the log.
    pub log_path: Blob,
    /// Whether [`ExecutionRequest::inherited`] was left out, because the store does not get it.
    pub lacks_inherited: bool,
}

impl Submission {
    /// Returns it without [`ExecutionRequest::inherited`].
    #[must_use]
    pub fn without_inherited(&self) -> Self {
        let mut kept = self.clone();
        kept.request.inherited = Vec::new();
        kept.lacks_inherited = !self.request.inherited.is_empty();
        kept
    }
}

/// An execution in the scheduler.
#[derive(Debug)]
pub struct Execution {
    /// Everything that does not change.
    pub submission: Submission,
    /// How much of the submission that is.
    pub extent: Extent,
    /// Its state.
    pub state: State,
    /// Its standard input.
    pub stdin: Stdin,
    /// Who has sent which signals, as far as its shim has told.
    pub signals: SentSignals,
}

impl Execution {
    /// Names in the error of a command that could not be started what was tried. `search_path` is the PATH in which its
    /// program was looked up, if it is known.
    pub(crate) fn name_start_attempt(
        &mut self,
        search_path: Option<&Blob>,
        missing_interpreter: Option<&MissingInterpreter>,
    ) {
        let request = &self.submission.request;
        if let State::Finished(finished) = &mut self.state
            && matches!(finished.outcome.exit, Exit::NotStarted { .. })
            && let argv = request.command.to_argv()
            && let Some(program) = argv.first()
        {
            finished.name_start_attempt(StartAttempt {
                program,
                is_alone: argv.len() == 1,
                search_path,
                working_dir: request.working_dir.as_ref(),
                missing_interpreter,
            });
        }
    }
}

/// Returns the status of an execution with this exit report.
#[cfg(test)]
pub(crate) fn status_of(report: escher_launcher::ipc::wire::ExitReport) -> escher_protocol::Status {
    outcome::from_report(report, &escher_protocol::ResourceLimits::default()).status
}

impl Execution {
    /// Creates an execution in this state.
    #[must_use]
    pub fn in_state(submission: Submission, state: State) -> Self {
        Execution {
            stdin: Stdin::new(submission.request.stdin),
            submission,
            extent: Extent::Whole,
            state,
            signals: SentSignals::default(),
        }
    }
}
