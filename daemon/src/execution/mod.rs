//! One execution: what it is, which states it goes through, and what can be said of it. Pure: no clock, no
//! I/O, no knowledge of other executions.

mod outcome;
mod record;
mod request;
mod spec;
mod state;
mod stdin;
mod submission;

pub use request::{Checked, RequestLimits, check};
pub use spec::launch_spec;
pub use state::{Action, End, Event, Impossible, State};
pub use stdin::{Stdin, StdinReply, Write};
pub use submission::Submission;

use escher_protocol::{Blob, ExecutionId, ExecutionRequest, Timestamp, User};

use crate::authz::Account;

/// An execution as the engine keeps it.
#[derive(Debug)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// Its number.
    pub number: u64,
    /// What was asked for.
    pub request: Box<ExecutionRequest>,
    /// The parts of the request that settings and defaults have decided.
    pub checked: Checked,
    /// Who asked.
    pub submitter: User,
    /// As whom it runs.
    pub account: Account,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// Path of its log.
    pub log_path: Blob,
    /// Where it stands.
    pub state: State,
    /// Its standard input.
    pub stdin: Stdin,
}
