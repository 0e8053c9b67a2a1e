//! What was taken on: everything about an execution that does not change any more.

use escher_protocol::{Blob, ExecutionId, ExecutionRequest, Timestamp, User};
use serde::{Deserialize, Serialize};

use super::Checked;
use crate::authz::Account;

/// A request that was accepted, with everything that is needed to run it, now or after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
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
}
