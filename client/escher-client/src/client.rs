//! What can be asked of escherd, one method each.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use escher_protocol::handshake::Welcome;
use escher_protocol::id::MIN_FRAGMENT_DIGITS;
use escher_protocol::message::{
    CancelOutcome, DaemonInfo, EventsRequest, ListFilter, OutputRequest, Removed, Selection,
    Submitted,
};
use escher_protocol::{
    CancelMode, Diagnostic, ErrorCode, ExecutionId, ExecutionRecord, ExecutionRequest,
    ExecutionResult, OutputRange, Reloaded, Request, ResourceLimits, Resources, Response, Setting,
    Target,
};

use crate::connector::Connector;
use crate::error::{ConnectError, Error};
use crate::response::{done, removed, unexpected};
use crate::result;
use crate::session::Session;
use crate::stream::{EventStream, ExecutionStream, LogStream, ResponseStream, StreamItem};

/// A connection to escherd. Clones share it; it closes with the last of them and their streams.
///
/// Where a method takes a [`Target`], an id, a number as text, a name or a part of an id will do.
/// As many requests and streams may be under way as escherd allows
/// ([`Welcome::limits`]); one more waits for its turn.
///
/// # When escherd goes away
///
/// escherd may be restarted, replaced or killed; commands and their output do not depend on it, and
/// neither does a client. It connects again as soon as it can, for as long as
/// [`Connector::reconnect_timeout`] says, and everything that was under way goes on:
///
/// - What does no harm when it is done twice is asked again: [`get_status`](Client::get_status),
///   [`wait_for_completion`](Client::wait_for_completion), [`get_result`](Client::get_result),
///   [`cancel`](Client::cancel), [`pause`](Client::pause), [`resume`](Client::resume),
///   [`resources`](Client::resources), [`info`](Client::info), [`settings`](Client::settings),
///   [`metrics`](Client::metrics), [`examine`](Client::examine),
///   [`reload`](Client::reload) (the answer then tells what is left to change),
///   [`prune`](Client::prune), [`cleanup_old_executions`](Client::cleanup_old_executions),
///   [`remove_execution`](Client::remove_execution) (for which a `not-found` then means that it was
///   done), [`write_stdin`](Client::write_stdin) at its offset, and [`execute`](Client::execute) and
///   [`execute_within`](Client::execute_within) of a request **with a key**.
/// - Both without a key and [`signal`](Client::signal) are not repeated once
///   they were sent: [`Error::Disconnected`] says that they may have been carried out or not.
/// - Streams go on where they stood: [`read_logs`](Client::read_logs) and [`follow`](Client::follow)
///   behind the last byte, [`events`](Client::events) behind the last sequence number,
///   [`list_executions`](Client::list_executions) and [`find`](Client::find) below the last number. A
///   [`StdinWriter`](crate::StdinWriter) sends again what was not acknowledged, and an
///   [event handler](Client::add_event_handler) is told everything once.
///
/// A name may come to mean another execution while escherd is away. Where that matters for a repeat, the
/// id is asked for before anything else ([`get_status`](Client::get_status)).
///
/// After an outage that was too long ([`Error::DaemonUnavailable`]), each request makes one attempt to reach
/// escherd and does not wait.
#[derive(Debug, Clone)]
pub struct Client {
    session: Arc<Session>,
}

impl Connector {
    /// Connects, and performs the handshake.
    ///
    /// Fails at once if no escherd listens on the socket. An escherd that closes the connection during
    /// the handshake is being restarted, so the client waits for it as for a lost connection.
    ///
    /// # Errors
    /// See [`ConnectError`]; each error names the socket.
    ///
    /// # Cancellation
    /// If the future is dropped, the connection is closed.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let session = Session::connect(self).await?;
        Ok(Client { session })
    }
}

impl Client {
    /// Connects to the socket at `path`. [`Connector`] does the same with a name and a deadline.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Connector::new(path.as_ref()).connect().await
    }

    /// The terms of the connection, and who answers. They may change when escherd is replaced.
    #[must_use]
    pub fn welcome(&self) -> Welcome {
        self.session.welcome()
    }

    /// Has a command run. Returns as soon as escherd has accepted it.
    ///
    /// A request with a key is asked again after a lost connection; [`Submitted::existing`] may then
    /// speak of the first time.
    ///
    /// # Errors
    /// [`Error::Api`] when escherd does not accept it; with [`Error::Disconnected`] and
    /// [`Error::DaemonUnavailable`] it may have, which only a request with a key can safely find out by asking
    /// again.
    pub async fn execute(&self, request: ExecutionRequest) -> Result<Submitted, Error> {
        self.submit(Request::Submit(Box::new(request))).await
    }

    /// As [`execute`](Client::execute); the command and everything below it may use no more than this
    /// together. Without any limit it is the same.
    ///
    /// # Errors
    /// As there, `limit-unenforceable`, and [`Error::Unsupported`] by an escherd without the feature
    /// `resources`.
    pub async fn execute_within(
        &self,
        request: ExecutionRequest,
        limits: ResourceLimits,
    ) -> Result<Submitted, Error> {
        if limits.is_unlimited() {
            return self.execute(request).await;
        }
        self.submit(Request::SubmitWithin(Box::new(request), limits))
            .await
    }

    async fn submit(&self, request: Request) -> Result<Submitted, Error> {
        match self.ask(request).await? {
            Response::Submitted(submitted) => Ok(submitted),
            other => Err(unexpected("a submission", &other)),
        }
    }

    /// What is known about an execution now.
    ///
    /// # Errors
    /// [`Error::Api`], above all `not-found` and `ambiguous`.
    pub async fn get_status(&self, target: impl Into<Target>) -> Result<ExecutionRecord, Error> {
        self.record(Request::Status(target.into())).await
    }

    /// The record of an execution once it is finished.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status). That the command failed is no error.
    pub async fn wait_for_completion(
        &self,
        target: impl Into<Target>,
    ) -> Result<ExecutionRecord, Error> {
        let target = self.resolve(target.into()).await?;
        self.record(Request::Wait(target)).await
    }

    /// The record and the output of an execution once it is finished, and what of the output was left
    /// out. Of an escherd without the feature `settings` the latter is what the result lacks in length,
    /// and where it stands is not known.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status), and `output-unavailable`.
    pub async fn get_result(&self, target: impl Into<Target>) -> Result<ExecutionResult, Error> {
        let target = self.resolve(target.into()).await?;
        result::fetch(&self.session, &target).await
    }

    /// Where the log of an execution is, or will be: the file with all of its output. To read it takes
    /// other rights than to ask for it ([`read_logs`](Client::read_logs)).
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status).
    pub async fn get_log_path(&self, target: impl Into<Target>) -> Result<PathBuf, Error> {
        let log_path = self.get_status(target).await?.log_path;
        Ok(OsString::from_vec(log_path.into_vec()).into())
    }

    /// Ends an execution. Returns as soon as that has begun, or why it need not.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status).
    pub async fn cancel(
        &self,
        target: impl Into<Target>,
        mode: CancelMode,
    ) -> Result<CancelOutcome, Error> {
        let target = self.resolve(target.into()).await?;
        match self.ask(Request::Cancel { target, mode }).await? {
            Response::Cancel(outcome) => Ok(outcome),
            other => Err(unexpected("a cancellation", &other)),
        }
    }

    /// Sends a signal (by its number, signal(7)) to an execution's main process.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status), and `not-running`; [`Error::Disconnected`] when it may
    /// have been sent or not.
    pub async fn signal(&self, target: impl Into<Target>, signal: i32) -> Result<(), Error> {
        let target = target.into();
        done(
            self.ask(Request::Signal { target, signal }).await?,
            "a signal",
        )
    }

    /// Stops everything that an execution runs, until it is resumed or ended. Its timeout goes on. Returns
    /// once it is stopped, at once if it was already.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status), `not-running`, `cannot-pause`, and [`Error::Unsupported`] by
    /// an escherd without the feature `resources`.
    pub async fn pause(&self, target: impl Into<Target>) -> Result<(), Error> {
        let target = self.resolve(target.into()).await?;
        done(self.ask(Request::Pause(target)).await?, "a pause")
    }

    /// Lets a paused execution go on. Returns once it does.
    ///
    /// # Errors
    /// As [`pause`](Client::pause).
    pub async fn resume(&self, target: impl Into<Target>) -> Result<(), Error> {
        let target = self.resolve(target.into()).await?;
        done(self.ask(Request::Resume(target)).await?, "a resumption")
    }

    /// What an execution may use, whether it is paused, and what it has used once it is over.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status), and [`Error::Unsupported`] by an escherd without the feature
    /// `resources`.
    pub async fn resources(&self, target: impl Into<Target>) -> Result<Resources, Error> {
        match self.ask(Request::Resources(target.into())).await? {
            Response::Resources(resources) => Ok(*resources),
            other => Err(unexpected("resources", &other)),
        }
    }

    /// Executions that fit `filter`, newest first, their commands cut where they are long.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream tells of everything else.
    pub async fn list_executions(&self, filter: ListFilter) -> Result<ExecutionStream, Error> {
        self.items(Request::List(filter)).await
    }

    /// Executions by what they are and when they were submitted, as
    /// [`list_executions`](Client::list_executions), also those that only escherd's store still knows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by an escherd without the feature `history`; the stream tells of
    /// everything else.
    pub async fn find(&self, selection: Selection) -> Result<ExecutionStream, Error> {
        self.items(Request::Find(selection)).await
    }

    /// Forgets a finished execution: its record and its log. When the answer was lost with a connection,
    /// the bytes of its log are not known and given as 0.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status), `not-finished`, and [`Error::Unsupported`].
    pub async fn remove_execution(&self, target: impl Into<Target>) -> Result<Removed, Error> {
        let target = self.resolve(target.into()).await?;
        let request = Request::Remove(target);
        match self.session.call_reporting_resend(request).await {
            (Err(Error::Api(error)), true) if error.code == ErrorCode::NOT_FOUND => Ok(Removed {
                executions: 1,
                log_bytes: 0,
            }),
            (answer, _) => removed(answer?),
        }
    }

    /// Forgets all finished executions that fit. After a lost connection it is asked again, and the
    /// answer tells of what was still there.
    ///
    /// # Errors
    /// [`Error::Api`], and [`Error::Unsupported`].
    pub async fn prune(&self, selection: Selection) -> Result<Removed, Error> {
        removed(self.ask(Request::Prune(selection)).await?)
    }

    /// Cleans up now what escherd's settings say need not be kept, as it does by itself where
    /// `enable_auto_cleanup` is on. For root and escherd's own user. After a lost connection it is asked
    /// again, and the answer tells of what was still there.
    ///
    /// # Errors
    /// `permission-denied`, and [`Error::Unsupported`] by an escherd without the feature `settings`.
    pub async fn cleanup_old_executions(&self) -> Result<Removed, Error> {
        removed(self.ask(Request::Cleanup).await?)
    }

    /// The output that is there now.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream tells of everything else.
    pub async fn read_logs(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<LogStream, Error> {
        self.output(target.into(), range, false).await
    }

    /// The output that is there and what will come, until the execution is finished. Another client
    /// goes on without gap or repeat with [`OutputRange::from_offset`] and the end of the last chunk.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream tells of everything else.
    pub async fn follow(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<LogStream, Error> {
        self.output(target.into(), range, true).await
    }

    /// What happens to the executions that this user may see.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream tells of everything else.
    pub async fn events(&self, request: EventsRequest) -> Result<EventStream, Error> {
        self.items(Request::Events(request)).await
    }

    /// About escherd itself.
    ///
    /// # Errors
    /// When escherd is gone.
    pub async fn info(&self) -> Result<DaemonInfo, Error> {
        match self.ask(Request::Info).await? {
            Response::Info(info) => Ok(*info),
            other => Err(unexpected("information", &other)),
        }
    }

    /// How many executions run now, of all users.
    ///
    /// # Errors
    /// When escherd is gone.
    pub async fn running_count(&self) -> Result<u64, Error> {
        Ok(self.info().await?.running)
    }

    /// How many executions escherd knows, of all users: those that wait, run, and are finished.
    ///
    /// # Errors
    /// When escherd is gone.
    pub async fn total_count(&self) -> Result<u64, Error> {
        let info = self.info().await?;
        let begun = info.running.saturating_add(info.finished);
        Ok(info.pending.saturating_add(begun))
    }

    /// The settings of escherd that are in force, and where each comes from.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by an escherd without the feature `settings`.
    pub async fn settings(&self) -> Result<Vec<Setting>, Error> {
        match self.ask(Request::Settings).await? {
            Response::Settings(settings) => Ok(settings),
            other => Err(unexpected("settings", &other)),
        }
    }

    /// Has escherd read its configuration again and apply what can change while it runs. For root and
    /// escherd's own user.
    ///
    /// # Errors
    /// `invalid-configuration` when there are faults in it; then nothing has changed.
    /// `permission-denied`, and [`Error::Unsupported`] by an escherd without the feature `settings`.
    pub async fn reload(&self) -> Result<Reloaded, Error> {
        match self.ask(Request::Reload).await? {
            Response::Reloaded(reloaded) => Ok(reloaded),
            other => Err(unexpected("a reload", &other)),
        }
    }

    /// What escherd counts, over all users, as [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/)
    /// text.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by an escherd without the feature `metrics`.
    pub async fn metrics(&self) -> Result<String, Error> {
        match self.ask(Request::Metrics).await? {
            Response::Metrics(text) => Ok(text.into_string()),
            other => Err(unexpected("metrics", &other)),
        }
    }

    /// Whether escherd and what it stands on are well. What could tell secrets is told to root and escherd's own
    /// user alone.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by an escherd without the feature `doctor`.
    pub async fn examine(&self) -> Result<Vec<Diagnostic>, Error> {
        match self.ask(Request::Examine).await? {
            Response::Diagnostics(diagnostics) => Ok(diagnostics),
            other => Err(unexpected("diagnostics", &other)),
        }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The same execution in words that mean no other one when the request is repeated: only an id, and
    /// a number that is too short for a part of an id, always do.
    pub(crate) async fn resolve(&self, target: Target) -> Result<Target, Error> {
        let Target::Reference(text) = &target else {
            return Ok(target);
        };
        if let Ok(id) = text.parse::<ExecutionId>() {
            return Ok(id.into());
        }
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if !self.session.reconnects() || (is_number && text.len() < MIN_FRAGMENT_DIGITS) {
            return Ok(target);
        }
        Ok(self.get_status(target).await?.id.into())
    }

    async fn ask(&self, request: Request) -> Result<Response, Error> {
        self.session.call(request).await
    }

    async fn record(&self, request: Request) -> Result<ExecutionRecord, Error> {
        match self.ask(request).await? {
            Response::Execution(record) => Ok(*record),
            other => Err(unexpected("an execution", &other)),
        }
    }

    async fn items<T: StreamItem>(&self, request: Request) -> Result<ResponseStream<T>, Error> {
        ResponseStream::open(&self.session, request).await
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
            follow,
        };
        self.items(Request::ReadOutput(request)).await
    }
}
