//! Events for handlers in a program.

use crate::blob::Blob;
use crate::execution::ExecutionRecord;
use crate::id::ExecutionId;
use crate::output::OutputGap;
use crate::time::Timestamp;

/// An event of an execution, for an event handler. The events of one execution come in this order:
/// `Started`, its output in the order of arrival, and at the end one of the others. An execution
/// that never ran has only the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionEvent {
    /// The program runs.
    Started {
        /// Which execution.
        id: ExecutionId,
        /// When it was started.
        at: Timestamp,
    },
    /// The command wrote to its standard output.
    Stdout {
        /// Which execution.
        id: ExecutionId,
        /// The bytes.
        data: Blob,
    },
    /// The command wrote to its standard error.
    Stderr {
        /// Which execution.
        id: ExecutionId,
        /// The bytes.
        data: Blob,
    },
    /// Output is missing here.
    OutputMissing {
        /// Which execution.
        id: ExecutionId,
        /// Where, how much, and why.
        gap: OutputGap,
    },
    /// The command exited with status 0.
    Completed(Box<ExecutionRecord>),
    /// The command exited with another status, was killed by a signal, could not be started, or
    /// wrote too much.
    Failed(Box<ExecutionRecord>),
    /// The execution was ended on request.
    Cancelled(Box<ExecutionRecord>),
    /// The execution was ended at its timeout.
    Timeout(Box<ExecutionRecord>),
    /// The result of the execution cannot be known.
    Lost(Box<ExecutionRecord>),
}

impl ExecutionEvent {
    /// Returns the last event of the execution with this record; `None` if it is not finished.
    #[must_use]
    pub fn from_finished(record: ExecutionRecord) -> Option<Self> {
        use crate::execution::Status;
        let status = record.status;
        let record = Box::new(record);
        match status {
            Status::Pending | Status::Running => None,
            Status::Completed => Some(ExecutionEvent::Completed(record)),
            Status::Failed => Some(ExecutionEvent::Failed(record)),
            Status::Cancelled => Some(ExecutionEvent::Cancelled(record)),
            Status::Timeout => Some(ExecutionEvent::Timeout(record)),
            Status::Lost => Some(ExecutionEvent::Lost(record)),
        }
    }
}
