//! What became of a submission, a cancel and a removal.

use serde::{Deserialize, Serialize};

use crate::execution::Status;
use crate::id::ExecutionId;

/// An accepted submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The id of the execution.
    pub id: ExecutionId,
    /// The number of the execution, for people.
    pub number: u64,
    /// Whether this is the execution of an earlier, equal request with the same key.
    pub existing: bool,
}

/// The answer to a cancel request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelAnswer {
    /// The execution was waiting and will not start.
    Withdrawn,
    /// The kill ladder has begun.
    Ending,
    /// The kill ladder had already begun.
    AlreadyEnding,
    /// The execution had already finished.
    AlreadyFinished(Status),
}

/// Totals of removed executions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Number of executions.
    pub executions: u64,
    /// Bytes of their logs.
    pub log_bytes: u64,
}
