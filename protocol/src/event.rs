//! What a handler of events is told.

use crate::blob::Blob;
use crate::execution::ExecutionRecord;
use crate::id::ExecutionId;
use crate::time::Timestamp;

/// Something that has happened to an execution. For one execution they come in this order: `Started`, its
/// output in the order of arrival, and one of the others at the end; one that never ran has only that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionEvent {
    /// Its program runs.
    Started {
        /// Which execution.
        id: ExecutionId,
        /// Since when.
        at: Timestamp,
    },
    /// It has written to its standard output.
    Stdout {
        /// Which execution.
        id: ExecutionId,
        /// What.
        data: Blob,
    },
    /// It has written to its standard error.
    Stderr {
        /// Which execution.
        id: ExecutionId,
        /// What.
        data: Blob,
    },
    /// It exited with status 0.
    Completed(Box<ExecutionRecord>),
    /// It exited otherwise, died of a signal, could not be started, or wrote too much.
    Failed(Box<ExecutionRecord>),
    /// Somebody has ended it.
    Cancelled(Box<ExecutionRecord>),
    /// Its time was over.
    Timeout(Box<ExecutionRecord>),
    /// What came of it cannot be known.
    Lost(Box<ExecutionRecord>),
}

impl ExecutionEvent {
    /// The event that is the end of an execution; `None` while it is not finished.
    #[must_use]
    pub fn end(record: ExecutionRecord) -> Option<Self> {
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
