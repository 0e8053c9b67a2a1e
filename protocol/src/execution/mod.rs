//! Executions: requests, records and outcomes.

mod cancel;
mod outcome;
mod record;
mod request;

pub use cancel::{CancelMode, Canceller};
pub use outcome::{Exit, Leftovers, Outcome, OutputTotals, StartStage, Usage};
pub use record::{
    ExecutionRecord, KEPT_COMMAND_BYTES, LISTED_COMMAND_BYTES, QueuePosition, Status, WaitReason,
};
pub use request::{
    Command, ExecutionRequest, KillMode, MAX_LABELS, MAX_NAME_BYTES, MAX_VARIABLE_NAME_BYTES,
    MAX_VARIABLES, OnStdinLost, RunAs, StdinLost, StdinMode, Timeout,
};
