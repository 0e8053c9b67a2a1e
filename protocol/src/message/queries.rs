//! What requests ask for: which executions, which output, which events.

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::blob::Text;
use crate::execution::Status;
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
    /// Of that, only output that arrived at this time or later.
    pub since: Option<Timestamp>,
    /// Of that, only output that arrived before this time.
    pub until: Option<Timestamp>,
    /// Whether to continue with new output until the execution is finished.
    pub follow: bool,
}

/// A request for events. The default is all that escherd still has, and no new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsRequest {
    /// Where to start.
    pub start: EventsStart,
    /// Which events.
    pub filter: EventFilter,
    /// Whether to continue with new events. The stream then ends only with the connection.
    pub follow: bool,
}

/// Where events start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventsStart {
    /// At the first one after which escherd still has every one.
    #[default]
    Oldest,
    /// After the event with this sequence number.
    After(u64),
    /// At the last ones, this many, of those that match when the request is served. 0: only new ones.
    Last(u64),
    /// At the first one that happened at this time or later.
    Since(Timestamp),
}

/// Conditions on events. All of them must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFilter {
    /// Only ends with these states, each once; empty: all events.
    #[serde(deserialize_with = "crate::blob::bounded_list")]
    pub statuses: Vec<Status>,
    /// Only of executions with this name.
    pub name: Option<Text>,
}
