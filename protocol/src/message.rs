//! The messages after the handshake.
//!
//! Variants are only ever appended, fields only with a new protocol version; within a version
//! messages grow by [parts](crate::parts). `tests/golden` holds the bytes of each message.

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Text};
use crate::codec::{self, MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES};
use crate::diagnostic::Diagnostic;
use crate::error::ApiError;
use crate::execution::{
    CancelMode, Canceller, Command, ExecutionRecord, ExecutionRequest, RunAs, Status,
};
use crate::id::{ExecutionId, InstanceId, RequestId, Target};
use crate::output::{OutputChunk, OutputGap, OutputStart, StreamSelection};
use crate::resources::CurrentUsage;
use crate::result::Omission;
use crate::settings::{Reloaded, Setting};
use crate::signal::{SignalAnswer, SignalRecipients, SignalSerial};
use crate::time::Timestamp;
use crate::user::User;

/// A frame from a client to escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame {
    /// Makes a request.
    Request {
        /// Identifies the answer: every frame of it has the same id.
        id: RequestId,
        /// The request.
        body: Request,
    },
    /// Adds to the window of the stream that answers `id`.
    ///
    /// The window starts with `stream_window_bytes` and never exceeds that; each
    /// [`ServerFrame::Item`] uses up the length of its payload, and the daemon sends the next item
    /// while anything is left. So a client that reads one stream slowly can still use the
    /// connection for everything else.
    Grant {
        /// The request that the stream answers.
        id: RequestId,
        /// Payload bytes to add to the window.
        bytes: u32,
    },
    /// Abandons a request: no frames of its answer follow, except those already on their way. The
    /// effects of the request stay.
    Abandon {
        /// The request.
        id: RequestId,
    },
}

/// Longest encoding of what comes before the fields of a request: the variant of the frame, the id
/// and the variant of the request, each in its longest form.
const MAX_REQUEST_HEAD_BYTES: usize = 5 + 9 + 5;

impl ClientFrame {
    /// Returns the longest payload that this frame may have.
    #[must_use]
    pub fn max_payload_bytes(&self) -> usize {
        match self {
            ClientFrame::Request {
                body: Request::Submit(_),
                ..
            } => MAX_PAYLOAD_BYTES,
            _ => MAX_REQUEST_BYTES,
        }
    }

    /// Returns the longest payload that a frame may have whose payload begins with `beginning`;
    /// `None` if more bytes are needed to tell.
    #[must_use]
    pub fn max_payload_bytes_by(beginning: &[u8]) -> Option<usize> {
        let variant_id_and_request: Option<(u32, u64, u32)> = codec::decode_beginning(beginning);
        match variant_id_and_request {
            // The first variants of both: a request to submit.
            Some((0, _, 0)) => Some(MAX_PAYLOAD_BYTES),
            None if beginning.len() < MAX_REQUEST_HEAD_BYTES => None,
            _ => Some(MAX_REQUEST_BYTES),
        }
    }
}

/// A frame from escherd to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// The answer to a request with one value.
    Reply {
        /// The request.
        id: RequestId,
        /// The value, or why there is none.
        result: Result<Response, ApiError>,
    },
    /// One element of the stream that answers a request.
    Item {
        /// The request.
        id: RequestId,
        /// The element.
        item: Item,
    },
    /// The end of a stream.
    End {
        /// The request.
        id: RequestId,
        /// Whether the stream was complete, or why not.
        result: Result<(), ApiError>,
    },
}

/// The id of the last frame before escherd closes a connection that has violated the protocol, or is idle: a
/// [`ServerFrame::End`] with the reason. No request has this id.
pub const FAREWELL_ID: RequestId = RequestId(u64::MAX);

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
    /// Returns events of the executions that the caller may see. → stream of [`Item::Event`].
    Events(EventsRequest),
    /// Forgets a finished execution: its record and its log. → [`Response::Removed`].
    Remove(Target),
    /// Forgets all finished executions that match; unfinished ones are skipped, whatever the filter
    /// says. → [`Response::Removed`].
    Prune(Selection),
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
            Request::List(selection) | Request::Prune(selection) => {
                let filter = &selection.filter;
                filter.statuses.len().max(filter.labels.len())
            }
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
}

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

/// Conditions on executions. All of them must hold. A text in them has at most
/// [`MAX_NAME_BYTES`](crate::execution::MAX_NAME_BYTES).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFilter {
    /// Finished executions too; otherwise only pending and running ones.
    pub all: bool,
    /// Only these states, each once, whatever `all` says; empty: any.
    #[serde(deserialize_with = "crate::blob::bounded_list")]
    pub statuses: Vec<Status>,
    /// Only with all of these labels (keys and values); at most
    /// [`MAX_LABELS`](crate::execution::MAX_LABELS).
    #[serde(deserialize_with = "crate::blob::bounded_list")]
    pub labels: Vec<(Text, Text)>,
    /// Only with this name.
    pub name: Option<Text>,
    /// Only run as this user: a login name or a uid.
    pub user: Option<Text>,
    /// Most executions to return, the newest; 0: no limit.
    pub limit: u32,
}

/// A filter with times of submission.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The filter. [`Request::Prune`] ignores its limit.
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

/// Totals of removed executions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Number of executions.
    pub executions: u64,
    /// Bytes of their logs.
    pub log_bytes: u64,
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

/// What one user takes of the queue, the slots and the disk of the logs, and may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The user. An execution is charged to the user who has submitted it.
    pub user: User,
    /// Number of waiting executions.
    pub pending: u64,
    /// Most of them.
    pub max_pending: u64,
    /// Bytes of their requests.
    pub pending_bytes: u64,
    /// Most of them.
    pub max_pending_bytes: u64,
    /// Number of running executions, those that are about to start included.
    pub running: u64,
    /// Most of them. While other users wait it may be less.
    pub max_running: u64,
    /// Bytes of the disk of the logs that the user's logs take, with the indexes: those of finished executions as
    /// they are, and those of running ones as far as they may grow at the moment.
    pub log_disk_bytes: u64,
    /// Most of them; `u64::MAX` where the size of the disk is not known.
    pub max_log_disk_bytes: u64,
    /// What the user has in the history.
    pub history: HistoryQuota,
}

/// What a user has in the history, and its share of that: the limit, divided by the number of users who
/// have something there. Nothing is removed to keep a limit from a user who has no more than its share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuota {
    /// Number of finished executions.
    pub finished: u64,
    /// The share of them.
    pub finished_share: u64,
    /// Bytes of their logs, with the indexes.
    pub log_bytes: u64,
    /// The share of them.
    pub log_bytes_share: u64,
}

/// Facts about a running escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// escherd's version.
    pub version: Text,
    /// The id of this run of escherd.
    pub instance: InstanceId,
    /// The process id.
    pub pid: u32,
    /// The uid that it runs as.
    pub uid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// Whether it can run commands as any user; otherwise only as its own user.
    pub serves_all_users: bool,
    /// The launcher's process id; `None` while there is none.
    pub launcher_pid: Option<u32>,
    /// Directory of the logs.
    pub log_dir: Blob,
    /// Directory of the state that survives a reboot.
    pub state_dir: Blob,
    /// Number of waiting executions, of all users, as the next two.
    pub pending: u64,
    /// Number of running executions.
    pub running: u64,
    /// Number of finished executions that escherd still knows.
    pub finished: u64,
    /// Most executions that run at once.
    pub max_concurrent_executions: u64,
    /// Most executions that wait.
    pub max_pending_executions: u64,
    /// Timeout of executions without one of their own, in milliseconds; 0: no timeout.
    pub default_timeout_ms: u64,
    /// Longest timeout that a request may have, in milliseconds; 0: any.
    pub max_timeout_ms: u64,
    /// Most bytes of each stream in a result.
    pub max_output_size_bytes: u64,
}
