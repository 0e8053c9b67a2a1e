//! The events of executions.

use serde::{Deserialize, Serialize};

use crate::blob::Text;
use crate::execution::{Canceller, Status};
use crate::id::ExecutionId;
use crate::time::Timestamp;
use crate::user::User;

/// An event of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Increases by one for each event, also over restarts of escherd; a caller sees gaps where
    /// events concern executions that it may not see.
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// The execution.
    pub id: ExecutionId,
    /// The execution's number.
    pub number: u64,
    /// The execution's name, if it has one.
    pub name: Option<Text>,
    /// The user that submitted the execution.
    pub user: User,
    /// What happened.
    pub kind: EventKind,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The execution was accepted and waits for its turn.
    Submitted,
    /// The program runs.
    Started,
    /// A cancel of the execution was requested.
    CancelRequested(Canceller),
    /// The execution has ended.
    Finished(Status),
}

impl EventKind {
    /// Returns the kind's name in JSON and tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            EventKind::Submitted => "submitted",
            EventKind::Started => "started",
            EventKind::CancelRequested(_) => "cancel-requested",
            EventKind::Finished(_) => "finished",
        }
    }
}
