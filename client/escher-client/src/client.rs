//! What can be asked of escherd, one method each.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use escher_protocol::handshake::Welcome;
use escher_protocol::id::{MIN_ID_PART_DIGITS, parse_number};
use escher_protocol::message::{
    CancelOutcome, DaemonInfo, EventsRequest, OutputRequest, Removed, Selection, Submitted,
};
use escher_protocol::{
    Blob, CancelMode, Diagnostic, ErrorCode, ExecutionEvent, ExecutionId, ExecutionRecord,
    ExecutionRequest, ExecutionResult, OutputRange, Reloaded, Request, Response, Setting, Target,
};

use crate::connector::Connector;
use crate::error::{ConnectError, Error, Violation};
use crate::event_handler::{self, EventHandler};
use crate::result;
use crate::session::Session;
use crate::stdin::StdinWriter;
use crate::stream::{Element, Events, Executions, Items, Output};

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
/// [`Connector::reconnect_within`] says, and everything that was under way goes on:
///
/// - What does no harm when it is done twice is asked again: [`get_status`](Client::get_status),
///   [`wait_for_completion`](Client::wait_for_completion), [`get_result`](Client::get_result),
///   [`cancel`](Client::cancel), [`pause`](Client::pause), [`resume`](Client::resume),
///   [`info`](Client::info), [`settings`](Client::settings),
///   [`metrics`](Client::metrics), [`diagnose`](Client::diagnose),
///   [`reload`](Client::reload) (the answer then tells what is left to change),
///   [`prune`](Client::prune), [`cleanup_old_executions`](Client::cleanup_old_executions),
///   [`remove_execution`](Client::remove_execution) (for which a `not-found` then means that it was
///   done), [`write_stdin`](Client::write_stdin) at its offset, and [`execute`](Client::execute) of a
///   request **with a key**.
/// - [`execute`](Client::execute) without a key and [`signal`](Client::signal) are not repeated once
///   they were sent: [`Error::Disconnected`] says that they may have been carried out or not.
/// - Streams go on where they stood: [`read_logs`](Client::read_logs) and [`follow`](Client::follow)
///   behind the last byte, [`events`](Client::events) behind the last sequence number,
///   [`list_executions`](Client::list_executions) below the last number. A [`StdinWriter`] sends again what was not acknowledged, and an
///   [event handler](Client::add_event_handler) is told everything once.
///
/// A name may come to mean another execution while escherd is away. Where that matters for a repeat, the
/// id is asked for before anything else ([`get_status`](Client::get_status)).
///
/// After an outage that was too long ([`Error::DaemonGone`]), each request makes one attempt to reach
/// escherd and does not wait.
#[derive(Debug, Clone)]
pub struct Client {
    session: Arc<Session>,
}

impl Client {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Client { session }
    }

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
    /// [`Error::DaemonGone`] it may have, which only a request with a key can safely find out by asking
    /// again.
    pub async fn execute(&self, request: ExecutionRequest) -> Result<Submitted, Error> {
        match self.ask(Request::Submit(Box::new(request))).await? {
            Response::Submitted(submitted) => Ok(submitted),
            other => Err(wrong("a submission", &other)),
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
        let target = self.pin(target.into()).await?;
        self.record(Request::Wait(target)).await
    }

    /// The record and the output of an execution once it is finished, and what of the output was left
    /// out.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status), and `output-unavailable`.
    pub async fn get_result(&self, target: impl Into<Target>) -> Result<ExecutionResult, Error> {
        let target = self.pin(target.into()).await?;
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
        let target = self.pin(target.into()).await?;
        match self.ask(Request::Cancel { target, mode }).await? {
            Response::Cancel(outcome) => Ok(outcome),
            other => Err(wrong("a cancellation", &other)),
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
    /// As [`get_status`](Client::get_status), `not-running`, and `cannot-pause`.
    pub async fn pause(&self, target: impl Into<Target>) -> Result<(), Error> {
        let target = self.pin(target.into()).await?;
        done(self.ask(Request::Pause(target)).await?, "a pause")
    }

    /// Lets a paused execution go on. Returns once it does.
    ///
    /// # Errors
    /// As [`pause`](Client::pause).
    pub async fn resume(&self, target: impl Into<Target>) -> Result<(), Error> {
        let target = self.pin(target.into()).await?;
        done(self.ask(Request::Resume(target)).await?, "a resumption")
    }

    /// Lists executions that match, newest first, their commands cut where they are long: by a
    /// [`ListFilter`](crate::ListFilter), or by a [`Selection`], which has times of submission too.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream reports everything else.
    pub async fn list_executions(
        &self,
        selection: impl Into<Selection>,
    ) -> Result<Executions, Error> {
        self.items(Request::List(selection.into())).await
    }

    /// Forgets a finished execution: its record and its log. When the answer was lost with a connection,
    /// the bytes of its log are not known and given as 0.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status), and `not-finished`.
    pub async fn remove_execution(&self, target: impl Into<Target>) -> Result<Removed, Error> {
        let target = self.pin(target.into()).await?;
        let request = Request::Remove(target);
        match self.session.call_noting_repeats(request).await {
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
    /// [`Error::Api`].
    pub async fn prune(&self, selection: Selection) -> Result<Removed, Error> {
        removed(self.ask(Request::Prune(selection)).await?)
    }

    /// Cleans up now what escherd's settings say need not be kept, as it does by itself where
    /// `enable_auto_cleanup` is on. For root and escherd's own user. After a lost connection it is asked
    /// again, and the answer tells of what was still there.
    ///
    /// # Errors
    /// `permission-denied`.
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
    ) -> Result<Output, Error> {
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
    ) -> Result<Output, Error> {
        self.output(target.into(), range, true).await
    }

    /// Has `handler` told of the executions that this user may see and that start from now on: each
    /// from its start, with its output, to its end. Of one that never starts it is told the end.
    ///
    /// What happens to one execution comes in order and one at a time; several are told of side by
    /// side. `handler` is called by tasks of the client's, so it must not block: one that has to wait
    /// for something hands over to a channel. It is told until the [`EventHandler`] is dropped.
    ///
    /// An execution that is removed before all of it was told gets no end, and output that is not in the
    /// log any more is passed over. As many are told of at once as half of the requests that escherd
    /// allows on a connection; the next ones wait until one of these is over.
    ///
    /// # Errors
    /// When escherd is gone or does not know of its events.
    pub async fn add_event_handler(
        &self,
        handler: impl Fn(ExecutionEvent) + Send + Sync + 'static,
    ) -> Result<EventHandler, Error> {
        event_handler::start(self.clone(), Arc::new(handler)).await
    }

    /// What happens to the executions that this user may see.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream tells of everything else.
    pub async fn events(&self, request: EventsRequest) -> Result<Events, Error> {
        self.items(Request::Events(request)).await
    }

    /// Writes at most 64 KiB of a command's standard input at `offset`, counted from the first byte
    /// ever written, and waits until they have arrived. Returns how much of the input has.
    ///
    /// # Errors
    /// As [`get_status`](Client::get_status); `stdin-closed` and `not-running` when the command takes no
    /// more; `stdin-offset` when `offset` leaves a gap.
    pub async fn write_stdin(
        &self,
        target: impl Into<Target>,
        offset: u64,
        data: impl Into<Blob>,
        end: bool,
    ) -> Result<u64, Error> {
        let request = Request::WriteStdin {
            target: self.pin(target.into()).await?,
            offset,
            data: data.into(),
            end,
        };
        accepted_offset(self.ask(request).await?)
    }

    /// Writes a command's standard input from its beginning, however long it is.
    pub fn stdin(&self, target: impl Into<Target>) -> StdinWriter {
        StdinWriter::new(self.clone(), target.into(), 0)
    }

    /// About escherd itself.
    ///
    /// # Errors
    /// When escherd is gone.
    pub async fn info(&self) -> Result<DaemonInfo, Error> {
        match self.ask(Request::Info).await? {
            Response::Info(info) => Ok(*info),
            other => Err(wrong("information", &other)),
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
    /// [`Error`] when there is no answer.
    pub async fn settings(&self) -> Result<Vec<Setting>, Error> {
        match self.ask(Request::Settings).await? {
            Response::Settings(settings) => Ok(settings),
            other => Err(wrong("settings", &other)),
        }
    }

    /// Has escherd read its configuration again and apply what can change while it runs. For root and
    /// escherd's own user.
    ///
    /// # Errors
    /// `invalid-configuration` when there are faults in it; then nothing has changed.
    /// `permission-denied`.
    pub async fn reload(&self) -> Result<Reloaded, Error> {
        match self.ask(Request::Reload).await? {
            Response::Reloaded(reloaded) => Ok(reloaded),
            other => Err(wrong("a reload", &other)),
        }
    }

    /// What escherd counts, over all users, as [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/)
    /// text.
    ///
    /// # Errors
    /// [`Error`] when there is no answer.
    pub async fn metrics(&self) -> Result<String, Error> {
        match self.ask(Request::Metrics).await? {
            Response::Metrics(text) => Ok(text.into_string()),
            other => Err(wrong("metrics", &other)),
        }
    }

    /// Whether escherd and what it stands on are well. What could tell secrets is told to root and escherd's own
    /// user alone.
    ///
    /// # Errors
    /// [`Error`] when there is no answer.
    pub async fn diagnose(&self) -> Result<Vec<Diagnostic>, Error> {
        match self.ask(Request::Diagnose).await? {
            Response::Diagnostics(diagnostics) => Ok(diagnostics),
            other => Err(wrong("diagnostics", &other)),
        }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The same execution in words that mean no other one when the request is repeated: only an id, and
    /// a number that is too short for a part of an id, always do.
    pub(crate) async fn pin(&self, target: Target) -> Result<Target, Error> {
        let Target::Reference(text) = &target else {
            return Ok(target);
        };
        if let Ok(id) = text.parse::<ExecutionId>() {
            return Ok(id.into());
        }
        let is_number = parse_number(text).is_some();
        if !self.session.reconnects() || (is_number && text.len() < MIN_ID_PART_DIGITS) {
            return Ok(target);
        }
        Ok(self.get_status(target).await?.id.into())
    }

    async fn ask(&self, request: Request) -> Result<Response, Error> {
        self.session.call(request).await
    }

    async fn record(&self, request: Request) -> Result<ExecutionRecord, Error> {
        match self.ask(request).await? {
            Response::Execution(record) => understood(*record),
            other => Err(wrong("an execution", &other)),
        }
    }

    async fn items<T: Element>(&self, request: Request) -> Result<Items<T>, Error> {
        Items::open(&self.session, request).await
    }

    async fn output(
        &self,
        target: Target,
        range: OutputRange,
        follow: bool,
    ) -> Result<Output, Error> {
        let request = OutputRequest {
            target: self.pin(target).await?,
            streams: range.streams,
            start: range.start,
            length: range.length,
            follow,
        };
        self.items(Request::ReadOutput(request)).await
    }
}

/// Tags of the parts of a record that this library interprets: none are defined yet.
const KNOWN_RECORD_PARTS: &[u32] = &[];

/// Refuses a record with a part that must be understood and is not.
pub(crate) fn understood(record: ExecutionRecord) -> Result<ExecutionRecord, Error> {
    match record.parts.ensure_understood(KNOWN_RECORD_PARTS) {
        Ok(()) => Ok(record),
        Err(unsupported) => Err(Error::Api(unsupported.into())),
    }
}

fn done(response: Response, wanted: &'static str) -> Result<(), Error> {
    match response {
        Response::Done => Ok(()),
        other => Err(wrong(wanted, &other)),
    }
}

fn removed(response: Response) -> Result<Removed, Error> {
    match response {
        Response::Removed(removed) => Ok(removed),
        other => Err(wrong("a removal", &other)),
    }
}

pub(crate) fn accepted_offset(response: Response) -> Result<u64, Error> {
    match response {
        Response::StdinAccepted { offset } => Ok(offset),
        other => Err(wrong("standard input", &other)),
    }
}

fn wrong(wanted: &'static str, got: &Response) -> Error {
    let got = match got {
        Response::Submitted(_) => "a submission",
        Response::Execution(_) => "an execution",
        Response::Cancel(_) => "a cancellation",
        Response::StdinAccepted { .. } => "an offset",
        Response::Info(_) => "information",
        Response::Done => "a bare confirmation",
        Response::Removed(_) => "a removal",
        Response::Settings(_) => "settings",
        Response::Reloaded(_) => "a reload",
        Response::Metrics(_) => "metrics",
        Response::Diagnostics(_) => "diagnostics",
    };
    wrong_answer(wanted, got)
}

pub(crate) fn wrong_answer(wanted: &'static str, got: &'static str) -> Error {
    Error::Protocol(Violation::WrongAnswer { wanted, got })
}
