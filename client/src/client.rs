//! What can be asked of escherd, one method each.

use std::path::Path;
use std::sync::Arc;

use escher_protocol::handshake::Welcome;
use escher_protocol::message::{
    CancelOutcome, DaemonInfo, EventsRequest, ListFilter, OutputRequest, Submitted,
};
use escher_protocol::{
    Blob, CancelMode, ExecutionRecord, ExecutionRequest, Item, OutputStart, OutputStream, Request,
    Response, StreamSelection, Target,
};

use crate::connection::{Connection, PendingReply};
use crate::connector::Connector;
use crate::error::{ConnectError, Error, Violation};
use crate::items::{Events, Executions, Items, Output, kind};
use crate::stdin::StdinWriter;

/// A connection to escherd. Clones share it; it closes with the last of them and their streams.
///
/// Where a method takes a [`Target`], an id, a number as text, a name or a part of an id will do.
/// As many requests and streams may be under way as escherd allows
/// ([`Welcome::limits`]); one more waits for its turn.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

/// A finished execution with its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionResult {
    /// Everything known about it.
    pub record: ExecutionRecord,
    /// Its standard output, up to escherd's limit for results; `record` has the true length.
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
}

/// Which part of an execution's output to read. The default is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRange {
    /// Which of the two outputs.
    pub streams: StreamSelection,
    /// Where to begin.
    pub start: OutputStart,
    /// Log bytes to look at from there; `None`: to the end.
    pub length: Option<u64>,
}

impl Default for OutputRange {
    fn default() -> Self {
        OutputRange {
            streams: StreamSelection::Both,
            start: OutputStart::Offset(0),
            length: None,
        }
    }
}

impl OutputRange {
    /// All output from this byte of the log on.
    #[must_use]
    pub fn from_offset(offset: u64) -> Self {
        OutputRange {
            start: OutputStart::Offset(offset),
            ..OutputRange::default()
        }
    }
}

impl Client {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Client { connection }
    }

    /// Connects to the socket at `path`. [`Connector`] does the same with a name and a deadline.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Connector::new(path.as_ref()).connect().await
    }

    /// The terms of this connection, and who answers.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        self.connection.welcome()
    }

    /// Has a command run. Returns as soon as escherd has accepted it.
    ///
    /// # Errors
    /// [`Error::Api`] when escherd does not accept it; with [`Error::Disconnected`] it may have, which
    /// only a request with a key can safely find out by asking again.
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
    pub async fn status(&self, target: impl Into<Target>) -> Result<ExecutionRecord, Error> {
        self.record(Request::Status(target.into())).await
    }

    /// The record of an execution once it is finished.
    ///
    /// # Errors
    /// As [`status`](Client::status). That the command failed is no error.
    pub async fn wait(&self, target: impl Into<Target>) -> Result<ExecutionRecord, Error> {
        self.record(Request::Wait(target.into())).await
    }

    /// The record and the output of an execution once it is finished.
    ///
    /// # Errors
    /// As [`status`](Client::status), and `output-unavailable`.
    pub async fn result(&self, target: impl Into<Target>) -> Result<ExecutionResult, Error> {
        let request = Request::Result(target.into());
        let mut inbox = self.connection.stream(request).await?;
        let mut record = None;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(item) = std::future::poll_fn(|cx| inbox.poll_next(cx)).await {
            match item? {
                Item::Execution(finished) => record = Some(*finished),
                Item::Output(chunk) => match chunk.stream {
                    OutputStream::Stdout => stdout.extend_from_slice(&chunk.data),
                    OutputStream::Stderr => stderr.extend_from_slice(&chunk.data),
                },
                other => return Err(wrong_answer("a result", kind(&other))),
            }
        }
        match record {
            Some(record) => Ok(ExecutionResult {
                record,
                stdout,
                stderr,
            }),
            None => Err(wrong_answer("a result", "nothing")),
        }
    }

    /// Ends an execution. Returns as soon as that has begun, or why it need not.
    ///
    /// # Errors
    /// As [`status`](Client::status).
    pub async fn cancel(
        &self,
        target: impl Into<Target>,
        mode: CancelMode,
    ) -> Result<CancelOutcome, Error> {
        let target = target.into();
        match self.ask(Request::Cancel { target, mode }).await? {
            Response::Cancel(outcome) => Ok(outcome),
            other => Err(wrong("a cancellation", &other)),
        }
    }

    /// Sends a signal (by its number, signal(7)) to an execution's main process.
    ///
    /// # Errors
    /// As [`status`](Client::status), and `not-running`.
    pub async fn signal(&self, target: impl Into<Target>, signal: i32) -> Result<(), Error> {
        let target = target.into();
        match self.ask(Request::Signal { target, signal }).await? {
            Response::Done => Ok(()),
            other => Err(wrong("a signal", &other)),
        }
    }

    /// Executions that fit `filter`, newest first, their commands cut where they are long.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream tells of everything else.
    pub async fn list(&self, filter: ListFilter) -> Result<Executions, Error> {
        self.items(Request::List(filter)).await
    }

    /// The output that is there now.
    ///
    /// # Errors
    /// When the request cannot be sent; the stream tells of everything else.
    pub async fn logs(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<Output, Error> {
        self.output(target.into(), range, false).await
    }

    /// The output that is there and what will come, until the execution is finished. After an
    /// interruption, [`OutputRange::from_offset`] with the end of the last chunk goes on without gap
    /// or repeat.
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
    /// As [`status`](Client::status); `stdin-closed` and `not-running` when the command takes no more;
    /// `stdin-offset` when `offset` leaves a gap.
    pub async fn write_stdin(
        &self,
        target: impl Into<Target>,
        offset: u64,
        data: impl Into<Blob>,
        end: bool,
    ) -> Result<u64, Error> {
        let mut pending = self
            .start_write_stdin(target.into(), offset, data.into(), end)
            .await?;
        accepted_offset(pending.response().await?)
    }

    /// Writes a command's standard input from its beginning, however long it is.
    pub fn stdin(&self, target: impl Into<Target>) -> StdinWriter {
        StdinWriter::new(self.clone(), target.into(), 0)
    }

    /// About escherd itself.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn info(&self) -> Result<DaemonInfo, Error> {
        match self.ask(Request::Info).await? {
            Response::Info(info) => Ok(*info),
            other => Err(wrong("information", &other)),
        }
    }

    pub(crate) async fn start_write_stdin(
        &self,
        target: Target,
        offset: u64,
        data: Blob,
        end: bool,
    ) -> Result<PendingReply, Error> {
        let request = Request::WriteStdin {
            target,
            offset,
            data,
            end,
        };
        self.connection.call(request).await
    }

    async fn ask(&self, request: Request) -> Result<Response, Error> {
        self.connection.call(request).await?.response().await
    }

    async fn record(&self, request: Request) -> Result<ExecutionRecord, Error> {
        match self.ask(request).await? {
            Response::Execution(record) => Ok(*record),
            other => Err(wrong("an execution", &other)),
        }
    }

    async fn items<T>(&self, request: Request) -> Result<Items<T>, Error> {
        Ok(self.connection.stream(request).await?.into())
    }

    async fn output(
        &self,
        target: Target,
        range: OutputRange,
        follow: bool,
    ) -> Result<Output, Error> {
        let request = OutputRequest {
            target,
            streams: range.streams,
            start: range.start,
            length: range.length,
            follow,
        };
        self.items(Request::ReadOutput(request)).await
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
    };
    wrong_answer(wanted, got)
}

fn wrong_answer(wanted: &'static str, got: &'static str) -> Error {
    Error::Protocol(Violation::WrongAnswer { wanted, got })
}
