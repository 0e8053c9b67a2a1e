//! The client, and its requests about executions.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use escher_protocol::handshake::Welcome;
use escher_protocol::id::{MIN_ID_PART_DIGITS, parse_number};
use escher_protocol::message::{EventsRequest, OutputRequest, Removed, Selection, Submitted};
use escher_protocol::{
    ErrorCode, ExecutionId, ExecutionRecord, ExecutionRequest, ExecutionResult, OutputRange,
    Request, Response, Target,
};

use crate::connector::Connector;
use crate::error::{ConnectError, Error};
use crate::reconnecting_transport::ReconnectingTransport;
use crate::response::{execution, removed, unexpected};
use crate::result::ResultStream;
use crate::socket_choice::{EscherdSocket, SocketChoice};
use crate::stream::{EventStream, ExecutionStream, LogStream, ResponseStream, StreamItem};

/// A client of escherd.
///
/// A client is cheap to clone, and its clones share one connection, which closes when the last clone
/// and the last stream are dropped. Any number of tasks may send requests at once, up to
/// [`max_requests_in_flight`]; further ones wait. Responses come in the order in which they are ready,
/// and a stream that is read slowly holds up nothing else.
///
/// A method that takes a [`Target`] accepts an [`ExecutionId`], or as text an id, a number, a name, or
/// the beginning or end of an id.
///
/// # Cancellation
///
/// The future of any method may be dropped at any time. This abandons the request: escherd stops
/// sending responses. What the request changes may or may not have been changed.
///
/// # Reconnecting
///
/// escherd may be restarted, upgraded or killed. Commands and their output do not depend on it, and a
/// client reconnects for as long as [`Connector::reconnect_timeout`] allows. Then:
///
/// - Idempotent requests are sent again. These are all methods except [`execute`](Client::execute)
///   without a [key](ExecutionRequest::key): that fails with [`Error::Disconnected`] if the connection
///   was lost before the response, and may or may not have been carried out.
/// - Streams continue where they stopped, without loss or repetition: output after the last byte,
///   events after the last sequence number, lists below the last number.
/// - A [`StdinWriter`](crate::StdinWriter) sends unacknowledged input again, and an
///   [event handler](Client::add_event_handler) is called once for each event.
///
/// The response to a repeated request describes the repetition: for example, a repeated
/// [`prune`](Client::prune) counts only what the first one left.
///
/// A name can mean another execution after a restart. So before a request that may be repeated, the
/// client resolves its target to an id, unless it is one.
///
/// When reconnecting fails, waiting requests fail with [`Error::DaemonUnavailable`]. From then on each
/// request makes one attempt to connect, and does not wait.
///
/// [`max_requests_in_flight`]: escher_protocol::handshake::SessionLimits::max_requests_in_flight
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<ReconnectingTransport>,
}

impl Connector {
    /// Connects, and performs the handshake.
    ///
    /// Fails at once if no escherd listens on the socket, unless
    /// [`wait_for_daemon`](Connector::wait_for_daemon) says otherwise. An escherd that closes the connection during
    /// the handshake is being restarted, so the client waits for it as for a lost connection.
    ///
    /// # Errors
    /// See [`ConnectError`]. Each error names the socket.
    ///
    /// # Cancellation
    /// If the future is dropped, the connection is closed.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let transport = ReconnectingTransport::connect(self).await?;
        Ok(Client { transport })
    }
}

/// # Connection
impl Client {
    /// Connects to the socket at `path` with the defaults of [`Connector`].
    ///
    /// # Errors
    /// See [`ConnectError`]. Each error names the socket.
    ///
    /// # Cancellation
    /// If the future is dropped, the connection is closed.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Connector::new(path.as_ref()).connect().await
    }

    /// Connects to the escherd that [`SocketChoice::by_default`] chooses, with the defaults of [`Connector`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Cancellation
    /// If the future is dropped, the connection is closed.
    pub async fn connect_by_default() -> Result<Self, ConnectError> {
        Connector::to(SocketChoice::by_default()).connect().await
    }

    /// Returns the socket that the client is connected to.
    #[must_use]
    pub fn socket(&self) -> &EscherdSocket {
        self.transport.socket()
    }

    /// Returns why the system's escherd is not used, if the user's own is used in its place.
    #[must_use]
    pub fn passed_over(&self) -> Option<&ConnectError> {
        self.transport.passed_over()
    }

    /// Returns what escherd sent in the handshake of the current connection: its version and its
    /// limits. They can change when the client reconnects.
    #[must_use]
    pub fn welcome(&self) -> Welcome {
        self.transport.welcome()
    }
}

/// # Running commands
impl Client {
    /// Submits a command. Returns when escherd has accepted and recorded it, not when it starts.
    ///
    /// A request with a [key](ExecutionRequest::key) never runs twice, so it can be repeated after any
    /// error. [`Submitted::existing`] then tells that it had been accepted before.
    ///
    /// # Errors
    /// [`Error::Api`] if escherd does not accept the request. After [`Error::Disconnected`] and
    /// [`Error::DaemonUnavailable`] the command may or may not have been accepted.
    ///
    /// # Cancellation
    /// If the future is dropped, the command may or may not be accepted.
    pub async fn execute(&self, request: ExecutionRequest) -> Result<Submitted, Error> {
        match self.call(Request::Submit(Box::new(request))).await? {
            Response::Submitted(submitted) => Ok(submitted),
            other => Err(unexpected("a submission", &other)),
        }
    }

    /// Returns the current record of an execution.
    ///
    /// # Errors
    /// [`Error::Api`] with `not-found` if there is no such execution or this user may not see it, and
    /// with `ambiguous` if the target matches several; [`Error::Disconnected`] and
    /// [`Error::DaemonUnavailable`] if escherd cannot be reached.
    ///
    /// # Cancellation
    /// Dropping the future has no effect on the execution.
    pub async fn get_status(&self, target: impl Into<Target>) -> Result<ExecutionRecord, Error> {
        execution(self.call(Request::Status(target.into())).await?)
    }

    /// Waits until an execution is finished, and returns its record. A command that failed is not an
    /// error of this method.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status).
    ///
    /// # Cancellation
    /// Dropping the future has no effect on the execution.
    pub async fn wait_for_completion(
        &self,
        target: impl Into<Target>,
    ) -> Result<ExecutionRecord, Error> {
        let target = self.resolve(target.into()).await?;
        execution(self.call(Request::Wait(target)).await?)
    }

    /// Waits until an execution is finished, and returns its record and its output.
    ///
    /// escherd limits the output of a result; [`ExecutionResult::omissions`] tells what was left out.
    /// The log has all of it: see [`read_logs`](Client::read_logs).
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status), and `output-unavailable` if the log cannot be
    /// read.
    ///
    /// # Cancellation
    /// Dropping the future has no effect on the execution.
    pub async fn get_result(&self, target: impl Into<Target>) -> Result<ExecutionResult, Error> {
        self.read_result(target).await?.collect().await
    }

    /// Waits until an execution is finished, and returns its record and its output item by item, which takes little memory
    /// however much it is.
    ///
    /// # Errors
    /// The same as [`get_result`](Client::get_result).
    ///
    /// # Cancellation
    /// Dropping the future or the stream has no effect on the execution.
    pub async fn read_result(&self, target: impl Into<Target>) -> Result<ResultStream, Error> {
        let target = self.resolve(target.into()).await?;
        ResultStream::open(&self.transport, target).await
    }
}

/// # Output and events
impl Client {
    /// Reads the output that an execution has written so far.
    ///
    /// # Errors
    /// [`Error::Api`] if the target is a name that does not resolve, [`Error::Disconnected`] or
    /// [`Error::DaemonUnavailable`] if escherd cannot be reached. The stream returns all other errors,
    /// such as `not-found` and `output-unavailable`.
    ///
    /// # Cancellation
    /// Dropping the future or the stream has no effect on the execution.
    pub async fn read_logs(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<LogStream, Error> {
        self.output(target.into(), range, false).await
    }

    /// Reads the output of an execution from the start of `range` to the end of the execution, waiting
    /// for new output.
    ///
    /// To continue later, or from another client, use [`OutputRange::from_offset`] with the end of the
    /// last item: chunk or [gap](escher_protocol::OutputGap::end).
    ///
    /// # Errors
    /// The same as [`read_logs`](Client::read_logs).
    ///
    /// # Cancellation
    /// Dropping the future or the stream has no effect on the execution.
    pub async fn follow(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<LogStream, Error> {
        self.output(target.into(), range, true).await
    }

    /// Returns the path of the log, the file with all output of an execution. It exists once there is
    /// output.
    ///
    /// Reading the file is subject to its own permissions; [`read_logs`](Client::read_logs) needs only
    /// those of escherd.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status).
    ///
    /// # Cancellation
    /// Dropping the future has no effect on the execution.
    pub async fn get_log_path(&self, target: impl Into<Target>) -> Result<PathBuf, Error> {
        let log_path = self.get_status(target).await?.log_path;
        Ok(OsString::from_vec(log_path.into_vec()).into())
    }

    /// Reads the events of the executions that this user may see.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::DaemonUnavailable`] if escherd cannot be reached. The stream
    /// returns all other errors, such as `events-missed` if requested events are no longer stored.
    ///
    /// # Cancellation
    /// Dropping the future or the stream has no effect on executions.
    pub async fn events(&self, request: EventsRequest) -> Result<EventStream, Error> {
        self.open_stream(Request::Events(request)).await
    }
}

/// # Listing and removing executions
impl Client {
    /// Lists executions, newest first. Long commands are shortened.
    ///
    /// The selection is a [`Selection`], or a [`ListFilter`](crate::ListFilter) without limits on the
    /// time of submission.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::DaemonUnavailable`] if escherd cannot be reached. The stream
    /// returns all other errors.
    ///
    /// # Cancellation
    /// Dropping the future or the stream has no effect on executions.
    pub async fn list_executions(
        &self,
        selection: impl Into<Selection>,
    ) -> Result<ExecutionStream, Error> {
        self.open_stream(Request::List(selection.into())).await
    }

    /// Removes a finished execution: its record and its log.
    ///
    /// If the request had to be sent again and the execution is gone, the first request removed it; the
    /// size of its log is then unknown, and returned as 0.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status), and `not-finished`.
    ///
    /// # Cancellation
    /// If the future is dropped, the execution may or may not be removed.
    pub async fn remove_execution(&self, target: impl Into<Target>) -> Result<Removed, Error> {
        let target = self.resolve(target.into()).await?;
        let request = Request::Remove(target);
        match self.transport.call_reporting_resend(request).await {
            (Err(Error::Api(error)), true) if error.code == ErrorCode::NOT_FOUND => Ok(Removed {
                executions: 1,
                log_bytes: 0,
            }),
            (response, _) => removed(response?),
        }
    }

    /// Removes all finished executions that match.
    ///
    /// # Errors
    /// [`Error::Api`] if escherd refuses; [`Error::Disconnected`] and [`Error::DaemonUnavailable`] if it
    /// cannot be reached, some executions may have been removed then.
    ///
    /// # Cancellation
    /// If the future is dropped, some or all of the executions may be removed.
    pub async fn prune(&self, selection: Selection) -> Result<Removed, Error> {
        let dry_run = false;
        removed(self.call(Request::Prune { selection, dry_run }).await?)
    }

    /// Counts what [`prune`](Client::prune) would remove.
    ///
    /// # Errors
    /// As there, but nothing is removed.
    ///
    /// # Cancellation
    /// Dropping the future has no effect on executions.
    pub async fn count_prunable(&self, selection: Selection) -> Result<Removed, Error> {
        let dry_run = true;
        removed(self.call(Request::Prune { selection, dry_run }).await?)
    }
}

impl Client {
    pub(crate) fn transport(&self) -> &Arc<ReconnectingTransport> {
        &self.transport
    }

    pub(crate) async fn call(&self, request: Request) -> Result<Response, Error> {
        self.transport.call(request).await
    }

    /// Resolves a target to an id if it could mean another execution when the request is sent again.
    ///
    /// A name can, and so can a part of an id. An id cannot, nor can a number that is too short to be
    /// the beginning or end of an id.
    pub(crate) async fn resolve(&self, target: Target) -> Result<Target, Error> {
        let Target::Reference(text) = &target else {
            return Ok(target);
        };
        if let Ok(id) = text.parse::<ExecutionId>() {
            return Ok(id.into());
        }
        let is_number = parse_number(text).is_some();
        if !self.transport.reconnects() || (is_number && text.len() < MIN_ID_PART_DIGITS) {
            return Ok(target);
        }
        Ok(self.get_status(target).await?.id.into())
    }

    pub(crate) async fn open_stream<T: StreamItem>(
        &self,
        request: Request,
    ) -> Result<ResponseStream<T>, Error> {
        ResponseStream::open(&self.transport, request).await
    }

    async fn output(
        &self,
        target: Target,
        range: OutputRange,
        follow: bool,
    ) -> Result<LogStream, Error> {
        let request = OutputRequest {
            target: self.resolve(target).await?,
            streams: range.streams,
            start: range.start,
            length: range.length,
            since: range.since,
            until: range.until,
            follow,
        };
        self.open_stream(Request::ReadOutput(request)).await
    }
}
