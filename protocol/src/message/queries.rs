//! What requests ask for: which executions, which output, which events.

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::id::Target;
use crate::output::{OutputStart, StreamSelection};
use crate::time::Timestamp;

/// Which executions a list has. A text in it has at most
/// [`MAX_NAME_BYTES`](crate::execution::MAX_NAME_BYTES).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFilter {
    /// Finished executions too; otherwise only pending and running ones, unless a condition demands a
    /// state or an exit status.
    pub all: bool,
    /// What the executions must have and must not have; at most [`MAX_CONDITIONS`](super::MAX_CONDITIONS).
    /// Of those that demand something of the same property one must hold; so must all that are negated.
    #[serde(deserialize_with = "crate::blob::bounded_list")]
    pub conditions: Vec<Condition>,
    /// Most executions to return, the newest; 0: no limit.
    pub limit: u32,
}

/// A filter with times of submission.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The filter. [`Request::Prune`](super::Request::Prune) ignores its limit.
    pub filter: ListFilter,
    /// Only executions submitted at this time or later.
    pub since: Option<Timestamp>,
    /// Only executions submitted before this time.
    pub until: Option<Timestamp>,
}

impl From<ListFilter> for Selection {
    fn from(filter: ListFilter) -> Self {
        Selection {
            filter,
            since: None,
            until: None,
        }
    }
}

/// A request to read output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRequest {
    /// The execution.
    pub target: Target,
    /// Which streams to read.
    pub streams: StreamSelection,
    /// Where to start.
    pub start: OutputStart,
    /// Bytes of the log to read from there, selected or not; `None`: to the end.
    pub length: Option<u64>,
    /// Whether to continue with new output until the execution is finished.
    pub follow: bool,
}

/// A request for events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsRequest {
    /// Only events after this sequence number; `None`: all from the first one after which escherd still
    /// has every one.
    pub after: Option<u64>,
    /// Whether to continue with new events. The stream then ends only with the connection.
    pub follow: bool,
}
