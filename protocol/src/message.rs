//! What travels once the handshake is done.
//!
//! Variants and fields are only ever appended (a field to a message only with a new protocol version);
//! `tests/golden` holds the bytes of each.

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Text};
use crate::diagnostic::Diagnostic;
use crate::error::ApiError;
use crate::execution::{CancelMode, Canceller, ExecutionRecord, ExecutionRequest, Status, User};
use crate::id::{ExecutionId, InstanceId, RequestId, Target};
use crate::output::{OutputChunk, OutputStart, StreamSelection};
use crate::result::Omission;
use crate::settings::{Reloaded, Setting};
use crate::time::Timestamp;

/// Client to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame {
    /// Asks for something.
    Request {
        /// Comes back in every frame that answers.
        id: RequestId,
        /// What is asked for.
        body: Request,
    },
    /// Allows the stream that answers `id` to send so many more payload bytes.
    ///
    /// A stream starts with `stream_window_bytes`; each [`ServerFrame::Item`] uses up the length of its
    /// payload; the daemon sends the next one while anything is left. So a client that reads one stream
    /// slowly can still use the connection for everything else.
    Grant {
        /// The request whose stream may go on.
        id: RequestId,
        /// Payload bytes to add.
        bytes: u32,
    },
    /// The client no longer wants an answer to `id`, and gets no more of it but for frames that are on
    /// their way already. What the request has done stays done.
    Abandon {
        /// The request to forget.
        id: RequestId,
    },
}

/// Daemon to client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// The whole answer to a request that has one value.
    Reply {
        /// The request.
        id: RequestId,
        /// Its answer.
        result: Result<Response, ApiError>,
    },
    /// One element of the stream that answers a request.
    Item {
        /// The request.
        id: RequestId,
        /// The element.
        item: Item,
    },
    /// The stream is over.
    End {
        /// The request.
        id: RequestId,
        /// Whether it was complete.
        result: Result<(), ApiError>,
    },
}

/// What a client asks of escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run a command. → [`Response::Submitted`].
    Submit(Box<ExecutionRequest>),
    /// What is known about an execution. → [`Response::Execution`].
    Status(Target),
    /// As `Status`, once the execution is finished. → [`Response::Execution`].
    Wait(Target),
    /// The record of an execution and its output up to the configured limit, once it is finished.
    /// → stream: one [`Item::Execution`], then [`Item::Output`]s, all of stdout before all of stderr,
    /// with an [`Item::Omitted`] in place of output that is left out.
    Result(Target),
    /// Executions that the caller may see, newest first. → stream of [`Item::Execution`] whose
    /// commands are cut at [`LISTED_COMMAND_BYTES`](crate::execution::LISTED_COMMAND_BYTES).
    List(Selection),
    /// End an execution. → [`Response::Cancel`].
    Cancel {
        /// Which execution.
        target: Target,
        /// How.
        mode: CancelMode,
    },
    /// Send a signal to an execution's main process. → [`Response::Done`].
    Signal {
        /// Which execution.
        target: Target,
        /// The signal's number (signal(7)).
        signal: i32,
    },
    /// Stop all processes of an execution until it is resumed or ended. Its timeout goes on.
    /// → [`Response::Done`] once they are stopped.
    Pause(Target),
    /// Continue a paused execution. → [`Response::Done`] once its processes run again.
    Resume(Target),
    /// Bytes for a command's standard input. → [`Response::StdinAccepted`] once the shim has them.
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
    /// Output from the log. → stream of [`Item::Output`].
    ReadOutput(OutputRequest),
    /// Events of the executions that the caller may see. → stream of [`Item::Event`].
    Events(EventsRequest),
    /// Forget a finished execution: its record and its log. → [`Response::Removed`].
    Remove(Target),
    /// Forget all finished executions that match; unfinished ones are skipped, whatever the filter
    /// says. → [`Response::Removed`].
    Prune(Selection),
    /// Facts about escherd itself. → [`Response::Info`].
    Info,
    /// Check whether escherd and what it depends on are well. Details that could reveal secrets are
    /// only for root and escherd's own user. → [`Response::Diagnostics`].
    Diagnose,
    /// escherd's metrics, over all users. → [`Response::Metrics`].
    Metrics,
    /// The settings that are in force. → [`Response::Settings`].
    Settings,
    /// Read the configuration again and apply what can change while escherd runs. Only for root and
    /// escherd's own user. → [`Response::Reloaded`]; on an error nothing has changed.
    Reload,
    /// Remove now what the settings say need not be kept, as escherd does by itself where
    /// `enable_auto_cleanup` is on. Only for root and escherd's own user. → [`Response::Removed`].
    Cleanup,
}

/// Most bytes that one [`Request::WriteStdin`] carries.
pub const MAX_STDIN_BYTES: usize = 64 * 1024;

/// The answer to a request that has one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Submit`].
    Submitted(Submitted),
    /// To [`Request::Status`] and [`Request::Wait`].
    Execution(Box<ExecutionRecord>),
    /// To [`Request::Cancel`].
    Cancel(CancelOutcome),
    /// The request has been carried out and has no value.
    Done,
    /// To [`Request::WriteStdin`].
    StdinAccepted {
        /// How many bytes of the input the shim has, counted from the first byte ever written.
        offset: u64,
    },
    /// To [`Request::Remove`], [`Request::Prune`] and [`Request::Cleanup`].
    Removed(Removed),
    /// To [`Request::Info`].
    Info(Box<DaemonInfo>),
    /// To [`Request::Diagnose`].
    Diagnostics(#[serde(deserialize_with = "crate::blob::list")] Vec<Diagnostic>),
    /// To [`Request::Metrics`]: OpenMetrics text.
    Metrics(Text),
    /// To [`Request::Settings`].
    Settings(#[serde(deserialize_with = "crate::blob::list")] Vec<Setting>),
    /// To [`Request::Reload`].
    Reloaded(Reloaded),
}

/// One element of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// Of [`Request::List`] and [`Request::Result`].
    Execution(Box<ExecutionRecord>),
    /// Of [`Request::ReadOutput`] and [`Request::Result`].
    Output(OutputChunk),
    /// Of [`Request::Result`].
    Omitted(Omission),
    /// Of [`Request::Events`].
    Event(Event),
}

/// A command that escherd has taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id.
    pub id: ExecutionId,
    /// Its number, for people.
    pub number: u64,
    /// Whether the key was known and this is the execution of an earlier, equal request.
    pub existing: bool,
}

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelOutcome {
    /// It was still waiting; it will not start.
    Withdrawn,
    /// The kill ladder has begun.
    Ending,
    /// The kill ladder was already under way.
    AlreadyEnding,
    /// It had already finished.
    AlreadyFinished(Status),
}

/// Which executions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFilter {
    /// Finished ones too; else only pending and running ones.
    pub all: bool,
    /// Only these states; empty: any.
    #[serde(deserialize_with = "crate::blob::list")]
    pub statuses: Vec<Status>,
    /// Only with all of these labels and values.
    #[serde(deserialize_with = "crate::blob::list")]
    pub labels: Vec<(Text, Text)>,
    /// Only of this name.
    pub name: Option<Text>,
    /// Only run as this user (a login name).
    pub user: Option<Text>,
    /// At most so many, the newest; 0: no bound.
    pub limit: u32,
}

/// Which executions, by what they are and when they were submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// By what they are. For [`Request::Prune`] its limit means nothing.
    pub filter: ListFilter,
    /// Only those submitted then or later.
    pub since: Option<Timestamp>,
    /// Only those submitted before.
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

/// What has been forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// How many executions.
    pub executions: u64,
    /// Bytes of their logs.
    pub log_bytes: u64,
}

/// Which output to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRequest {
    /// Of which execution.
    pub target: Target,
    /// Which of its outputs.
    pub streams: StreamSelection,
    /// Where to begin.
    pub start: OutputStart,
    /// Log bytes to look at from there; `None`: to the end.
    pub length: Option<u64>,
    /// Whether to go on, as output comes, until the execution is finished.
    pub follow: bool,
}

/// Which events to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsRequest {
    /// Go on from here: events after this sequence number that escherd still has; `None`: all it has.
    pub after: Option<u64>,
    /// Whether to go on as events happen. The stream then ends only with the connection.
    pub follow: bool,
}

/// Something that happened to an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one for each event, over restarts of escherd too; a caller sees gaps where events
    /// concern executions that it may not see.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// To which execution.
    pub id: ExecutionId,
    /// Its number.
    pub number: u64,
    /// Its name, if it has one.
    pub name: Option<Text>,
    /// Whose it is.
    pub user: User,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// Accepted; it waits for its turn.
    Submitted,
    /// The program runs.
    Started,
    /// Somebody asked for its end.
    CancelRequested(Canceller),
    /// It is over.
    Finished(Status),
}

impl EventKind {
    /// The kind's name in JSON and tables.
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

/// About a running escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// escherd's version.
    pub version: Text,
    /// Which run of it.
    pub instance: InstanceId,
    /// Its process id.
    pub pid: u32,
    /// The user it runs as.
    pub uid: u32,
    /// Since when.
    pub started_at: Timestamp,
    /// Whether it can run commands as any user; else only as its own.
    pub serves_all_users: bool,
    /// The launcher's process id; `None` while there is none.
    pub launcher_pid: Option<u32>,
    /// Directory of the logs.
    pub log_dir: Blob,
    /// Directory of what must survive a reboot.
    pub state_dir: Blob,
    /// Executions that wait.
    pub pending: u64,
    /// Executions that run.
    pub running: u64,
    /// Finished executions that escherd still knows.
    pub finished: u64,
    /// Most that run at once.
    pub max_concurrent_executions: u64,
    /// Most that wait.
    pub max_pending_executions: u64,
    /// Timeout of a command that names none, in milliseconds; 0: none.
    pub default_timeout_ms: u64,
    /// Longest timeout that may be asked for, in milliseconds; 0: any.
    pub max_timeout_ms: u64,
    /// Bytes per stream that a result carries.
    pub max_output_size_bytes: u64,
}
