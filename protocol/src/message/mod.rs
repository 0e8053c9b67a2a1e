//! The messages after the handshake.
//!
//! Variants are only ever appended, fields only with a new protocol version; within a version
//! messages grow by [parts](crate::parts). `tests/golden` holds the bytes of each message.

mod answers;
mod condition;
mod daemon_info;
mod event;
mod frames;
mod queries;
mod quota;

pub use answers::{CancelAnswer, Removed, Submitted};
pub use condition::{Condition, ConditionError, MAX_CONDITIONS, Property};
pub use daemon_info::DaemonInfo;
pub use event::{Event, EventKind};
pub use frames::{CLOSING_FRAME_ID, ClientFrame, ServerFrame};
pub use queries::{EventFilter, EventsRequest, EventsStart, ListFilter, OutputRequest, Selection};
pub use quota::{HistoryQuota, Quota};

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Text};
use crate::diagnostic::Diagnostic;
use crate::execution::{CancelMode, Command, ExecutionRecord, ExecutionRequest, RunAs};
use crate::id::Target;
use crate::output::{OutputChunk, OutputGap};
use crate::resources::{CurrentUsage, ExecutionUsage};
use crate::result::Omission;
use crate::settings::{Reloaded, Setting};
use crate::signal::{SignalAnswer, SignalRecipients, SignalSerial};

/// The requests, each with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Runs a command. → [`Response::Submitted`].
    Submit(Box<ExecutionRequest>),
    /// Returns what is known about an execution. → [`Response::Execution`].
    Status(Target),
    /// Does the same once the execution is finished. → [`Response::Execution`].
    Wait(Target),
    /// Returns the record of an execution and its output up to the configured limit, once it is
    /// finished. → stream: one [`Item::Execution`], then [`Item::Output`]s, all of stdout before
    /// all of stderr, with an [`Item::Omitted`] in place of output that is left out, then an
    /// [`Item::Gap`] for each place where the log lacks output; at most [`MAX_RESULT_GAPS`].
    Result(Target),
    /// Lists executions that the caller may see, newest first. → stream of [`Item::Execution`]
    /// whose commands are cut at [`LISTED_COMMAND_BYTES`](crate::execution::LISTED_COMMAND_BYTES).
    List(Selection),
    /// Ends an execution. → [`Response::Cancel`].
    Cancel {
        /// Which execution.
        target: Target,
        /// How.
        mode: CancelMode,
    },
    /// Sends a signal to an execution. → [`Response::Signal`] once its shim has done so.
    Signal {
        /// Which execution.
        target: Target,
        /// The signal's number (signal(7)).
        signal: i32,
        /// Which of its processes get it.
        recipients: SignalRecipients,
        /// Makes the request safe to repeat.
        serial: SignalSerial,
    },
    /// Stops all processes of an execution until it is resumed or ended. Its timeout goes on.
    /// → [`Response::Done`] once they are stopped.
    Pause(Target),
    /// Continues a paused execution. → [`Response::Done`] once its processes run again.
    Resume(Target),
    /// Writes to a command's standard input. → [`Response::StdinAccepted`] once the shim has them.
    WriteStdin {
        /// Which execution.
        target: Target,
        /// Where `data` begins, counted from the first byte ever written. Bytes before the accepted
        /// offset are skipped, so a repeat after a lost reply does no harm; a gap is an error.
        offset: u64,
        /// The bytes; at most [`MAX_STDIN_BYTES`].
        data: Blob,
        /// Whether the input ends after `data`.
        end: bool,
    },
    /// Reads output from the log. → stream of [`Item::Output`], with an [`Item::Gap`] where output
    /// is missing.
    ReadOutput(OutputRequest),
    /// Returns events of the executions that the caller may see. → stream of one [`Item::EventsAfter`], then
    /// [`Item::Event`]s.
    Events(EventsRequest),
    /// Forgets a finished execution: its record and its log. → [`Response::Removed`].
    Remove(Target),
    /// Forgets all finished executions that match; unfinished ones are skipped, whatever the filter
    /// says. → [`Response::Removed`].
    Prune {
        /// Which executions.
        selection: Selection,
        /// Only count what would be removed.
        dry_run: bool,
    },
    /// Returns facts about escherd itself. → [`Response::Info`].
    Info,
    /// Checks whether escherd and what it depends on are well. Details that could reveal secrets
    /// are only for root and escherd's own user. → [`Response::Diagnostics`].
    Diagnose,
    /// Returns escherd's metrics, over all users. → [`Response::Metrics`].
    Metrics,
    /// Returns the settings in force. → [`Response::Settings`].
    Settings,
    /// Reads the configuration again and applies what can change while escherd runs. Only for root
    /// and escherd's own user. → [`Response::Reloaded`]; on an error nothing has changed.
    Reload,
    /// Removes now what the settings say need not be kept, as escherd does by itself where
    /// `enable_auto_cleanup` is on. Only for root and escherd's own user. → [`Response::Removed`].
    Cleanup,
    /// Returns what a user takes of queue and slots, and may take. `None`: of the caller; for root,
    /// of all users who take anything. Other users are only for root. → [`Response::Quotas`].
    Quota(Option<RunAs>),
    /// Holds an execution's standard input, as its only writer, until the request ends or the input is
    /// over. → stream of one [`Item::StdinHeld`]; it ends with the input.
    HoldStdin(Target),
    /// Says that the rest of an execution's standard input cannot be had. What then happens,
    /// [`ExecutionRequest::stdin_lost`] says. → [`Response::Done`].
    LoseStdin(Target),
    /// Measures what a running execution uses at the moment. → [`Response::CurrentUsage`].
    MeasureUsage(Target),
    /// Measures what the running executions that the caller may see use at the moment. → stream of
    /// [`Item::Usage`], newest first, without executions whose shims do not answer.
    MeasureRunning,
}

impl Request {
    /// Returns the length of its longest list. A request with a list of more than
    /// [`MAX_LIST_ITEMS`](crate::blob::MAX_LIST_ITEMS) cannot be decoded.
    #[must_use]
    pub fn longest_list(&self) -> usize {
        match self {
            Request::Submit(request) => {
                let arguments = match &request.command {
                    Command::Exec { argv } => argv.len(),
                    Command::Shell { .. } => 0,
                    Command::Script { arguments, .. } => arguments.len(),
                };
                let variables = request.inherited.len().max(request.environment.len());
                let lists = [
                    variables,
                    request.labels.len(),
                    request.process.rlimits.len(),
                ];
                lists.into_iter().fold(arguments, usize::max)
            }
            Request::List(selection) | Request::Prune { selection, .. } => {
                selection.filter.conditions.len()
            }
            Request::Events(request) => request.filter.statuses.len(),
            _ => 0,
        }
    }
}

/// Most [`Item::Gap`]s in the answer to [`Request::Result`]. The last then stands for all that
/// follow.
pub const MAX_RESULT_GAPS: usize = 1000;

/// Most bytes of one [`Request::WriteStdin`].
pub const MAX_STDIN_BYTES: usize = 64 * 1024;

/// The value that answers a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Answers [`Request::Submit`].
    Submitted(Submitted),
    /// Answers [`Request::Status`] and [`Request::Wait`].
    Execution(Box<ExecutionRecord>),
    /// Answers [`Request::Cancel`].
    Cancel(CancelAnswer),
    /// The request has been carried out and has no value.
    Done,
    /// Answers [`Request::WriteStdin`].
    StdinAccepted {
        /// How many bytes of the input the shim has, counted from the first byte ever written.
        offset: u64,
    },
    /// Answers [`Request::Remove`], [`Request::Prune`] and [`Request::Cleanup`].
    Removed(Removed),
    /// Answers [`Request::Info`].
    Info(Box<DaemonInfo>),
    /// Answers [`Request::Diagnose`].
    Diagnostics(#[serde(deserialize_with = "crate::blob::bounded_list")] Vec<Diagnostic>),
    /// Answers [`Request::Metrics`]: OpenMetrics text.
    Metrics(Text),
    /// Answers [`Request::Settings`].
    Settings(#[serde(deserialize_with = "crate::blob::bounded_list")] Vec<Setting>),
    /// Answers [`Request::Reload`].
    Reloaded(Reloaded),
    /// Answers [`Request::Quota`]: one for each user, in the order of the uids.
    Quotas(#[serde(deserialize_with = "crate::blob::bounded_list")] Vec<Quota>),
    /// Answers [`Request::Signal`].
    Signal(SignalAnswer),
    /// Answers [`Request::MeasureUsage`].
    CurrentUsage(CurrentUsage),
}

/// One element of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// Belongs to the answer to [`Request::List`] and [`Request::Result`].
    Execution(Box<ExecutionRecord>),
    /// Belongs to the answer to [`Request::ReadOutput`] and [`Request::Result`].
    Output(OutputChunk),
    /// Belongs to the answer to [`Request::Result`].
    Omitted(Omission),
    /// Belongs to the answer to [`Request::Events`].
    Event(Event),
    /// Belongs to the answer to [`Request::ReadOutput`] and [`Request::Result`].
    Gap(OutputGap),
    /// Belongs to the answer to [`Request::HoldStdin`].
    StdinHeld {
        /// Where the next byte of the input belongs, counted from the first byte ever written.
        offset: u64,
    },
    /// Belongs to the answer to [`Request::Events`]: where it starts. So a stream that is lost before its first event
    /// is continued there.
    EventsAfter {
        /// The sequence number of the last event before the first one that was requested.
        sequence: u64,
    },
    /// Belongs to the answer to [`Request::MeasureRunning`].
    Usage(ExecutionUsage),
}
