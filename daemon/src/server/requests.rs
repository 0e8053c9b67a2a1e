//! What is asked, answered: one function per request, each a value or a stream.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use escher_protocol::message::{
    DaemonInfo, EventsRequest, Item, ListFilter, OutputRequest, Submitted,
};
use escher_protocol::{
    ApiError, Blob, ErrorCode, ExecutionRecord, ExecutionRequest, OutputChunk, OutputStream,
    Request, RequestId, Response, ServerFrame, StreamSelection, Target, Timestamp,
};

use super::Service;
use super::outbox::{Gone, Items, Outbox, Window};
use crate::authz::{Caller, Scope};
use crate::engine::{Engine, Progress};
use crate::execution::Write;
use crate::output::{OutputReader, truncation_marker};

/// Records or events that are taken from the engine at once.
const PAGE: usize = 256;

/// Why an answer is not complete.
enum Broken {
    /// The client is told.
    Error(ApiError),
    /// There is nobody to tell.
    Gone,
}

impl<E: Into<ApiError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Broken::Error(error.into())
    }
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Broken::Gone
    }
}

/// Answers one request. Dropping the future abandons it.
pub(super) async fn answer(
    id: RequestId,
    request: Request,
    caller: Arc<Caller>,
    service: Arc<Service>,
    outbox: Outbox,
    window: Arc<Window>,
) {
    let scope = service.gate.scope(&caller);
    let call = Call {
        caller: &caller,
        service: &service,
        scope,
    };
    let items = Items {
        id,
        outbox: &outbox,
        window: &window,
    };
    let streamed = match request {
        Request::Result(target) => call.result(target, &items).await,
        Request::List(filter) => call.list(filter, &items).await,
        Request::ReadOutput(request) => call.read_output(request, &items).await,
        Request::Events(request) => call.events(request, &items).await,
        single => {
            let result = call.single(single).await;
            let _ = outbox.send(&ServerFrame::Reply { id, result }).await;
            return;
        }
    };
    let result = match streamed {
        Ok(()) => Ok(()),
        Err(Broken::Error(error)) => Err(error),
        Err(Broken::Gone) => return,
    };
    let _ = outbox.send(&ServerFrame::End { id, result }).await;
}

struct Call<'a> {
    caller: &'a Caller,
    service: &'a Service,
    scope: Scope,
}

impl Call<'_> {
    /// Has the engine do something within the caller's scope.
    async fn engine<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine, &Scope) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        let scope = self.scope.clone();
        let work = move |engine: &mut Engine| work(engine, &scope);
        Ok(self.service.engine.call(work).await?)
    }

    /// The requests that have one value.
    async fn single(&self, request: Request) -> Result<Response, ApiError> {
        let now = Timestamp::now();
        match request {
            Request::Submit(request) => self.submit(request).await.map(Response::Submitted),
            Request::Status(target) => {
                let record = self.engine(move |engine, scope| engine.status(scope, &target));
                Ok(Response::Execution(Box::new(record.await??)))
            }
            Request::Wait(target) => {
                let record = self.wait(target).await?;
                Ok(Response::Execution(Box::new(record)))
            }
            Request::Cancel { target, mode } => {
                let cancel =
                    self.engine(move |engine, scope| engine.cancel(scope, &target, mode, now));
                Ok(Response::Cancel(cancel.await??))
            }
            Request::Signal { target, signal } => {
                let signal =
                    self.engine(move |engine, scope| engine.signal(scope, &target, signal));
                signal.await??;
                Ok(Response::Done)
            }
            Request::WriteStdin {
                target,
                offset,
                data,
                end,
            } => {
                let write = Write { offset, data, end };
                let offset = self.write_stdin(target, write).await?;
                Ok(Response::StdinAccepted { offset })
            }
            Request::Remove(_) | Request::Prune(_) => {
                Err(ApiError::new(ErrorCode::INTERNAL, "not yet"))
            }
            Request::Info => Ok(Response::Info(Box::new(self.info().await?))),
            // `answer` has taken the streams.
            Request::Result(_)
            | Request::List(_)
            | Request::Find(_)
            | Request::ReadOutput(_)
            | Request::Events(_) => Err(ApiError::new(
                ErrorCode::INTERNAL,
                "a stream was asked for as a value",
            )),
        }
    }

    async fn submit(&self, request: Box<ExecutionRequest>) -> Result<Submitted, ApiError> {
        let permit = self
            .service
            .gate
            .submit(self.caller, &request.run_as)
            .await?;
        self.engine(move |engine, _| engine.submit(permit, request, Timestamp::now()))
            .await?
    }

    async fn wait(&self, target: Target) -> Result<ExecutionRecord, ApiError> {
        let record = self.engine(move |engine, scope| engine.wait(scope, &target));
        let stopping = |_| ApiError::from(crate::engine::Stopped);
        record.await??.await.map_err(stopping)
    }

    async fn write_stdin(&self, target: Target, write: Write) -> Result<u64, ApiError> {
        let most = escher_protocol::message::MAX_STDIN_BYTES;
        if write.data.len() > most {
            let message = format!(
                "{} bytes of input at once are over {most}",
                write.data.len()
            );
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        let reply = self.engine(move |engine, scope| engine.write_stdin(scope, &target, write));
        let stopping = |_| ApiError::from(crate::engine::Stopped);
        reply.await??.await.map_err(stopping)?
    }

    async fn info(&self) -> Result<DaemonInfo, ApiError> {
        let counts = self.engine(|engine, _| engine.counts()).await?;
        Ok(DaemonInfo {
            launcher_pid: *self.service.launcher_pid.borrow(),
            pending: counts.pending as u64,
            running: counts.running as u64,
            finished: counts.finished as u64,
            ..self.service.about.clone()
        })
    }

    async fn list(&self, filter: ListFilter, items: &Items<'_>) -> Result<(), Broken> {
        let mut before = u64::MAX;
        let mut left = match filter.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        while left > 0 {
            let (filter, room) = (filter.clone(), left.min(PAGE));
            let page = self
                .engine(move |engine, scope| engine.list(scope, &filter, before, room))
                .await?;
            let Some(last) = page.last() else { break };
            before = last.number;
            left -= page.len();
            for record in page {
                items.send(Item::Execution(Box::new(record))).await?;
            }
        }
        Ok(())
    }

    async fn events(&self, request: EventsRequest, items: &Items<'_>) -> Result<(), Broken> {
        let mut changes = self.engine(|engine, _| engine.watch_events()).await?;
        let EventsRequest { mut after, follow } = request;
        loop {
            changes.borrow_and_update();
            let wanted = EventsRequest { after, follow };
            let page = self
                .engine(move |engine, scope| engine.events(scope, &wanted, PAGE))
                .await??;
            let progressed = after != Some(page.seen);
            after = Some(page.seen);
            for event in page.events {
                items.send(Item::Event(event)).await?;
            }
            if progressed {
                continue;
            }
            if !follow || changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// The record of a finished execution, then its output, each stream up to the limit and a mark where
    /// it was cut.
    async fn result(&self, target: Target, items: &Items<'_>) -> Result<(), Broken> {
        let record = self.wait(target).await?;
        let (path, outcome) = (path(&record.log_path), record.outcome.clone());
        items.send(Item::Execution(Box::new(record))).await?;
        let Some(output) = outcome.map(|outcome| outcome.output) else {
            return Ok(());
        };
        for (stream, total) in [
            (OutputStream::Stdout, output.stdout_bytes),
            (OutputStream::Stderr, output.stderr_bytes),
        ] {
            if total > 0 {
                let reader = OutputReader::new(path.clone(), StreamSelection::Only(stream));
                self.result_stream(reader, output.log_bytes, items).await?;
            }
        }
        Ok(())
    }

    async fn result_stream(
        &self,
        mut reader: OutputReader,
        log_bytes: u64,
        items: &Items<'_>,
    ) -> Result<(), Broken> {
        let limit = self.service.about.max_output_size_bytes;
        let mut left = limit;
        while reader.offset() < log_bytes {
            items.ready().await;
            for mut chunk in reader.read(log_bytes).await?.chunks {
                let length = chunk.data.len() as u64;
                if length > left {
                    let kept = usize::try_from(left).unwrap_or(usize::MAX);
                    let mut data = chunk.data.into_vec();
                    data.truncate(kept);
                    let marker = OutputChunk {
                        offset: chunk.offset + left,
                        data: truncation_marker(limit).as_str().into(),
                        ..chunk
                    };
                    chunk.data = data.into();
                    items.send(Item::Output(chunk)).await?;
                    return Ok(items.send(Item::Output(marker)).await?);
                }
                left -= length;
                items.send(Item::Output(chunk)).await?;
            }
        }
        Ok(())
    }

    async fn read_output(&self, request: OutputRequest, items: &Items<'_>) -> Result<(), Broken> {
        let OutputRequest {
            target,
            streams,
            start,
            length,
            follow,
        } = request;
        let (record, mut progress) = self
            .engine(move |engine, scope| engine.follow(scope, &target))
            .await??;
        let id = record.id;
        let mut reader = OutputReader::new(path(&record.log_path), streams);
        let mut known = *progress.borrow_and_update();
        if !known.finished || known.log_bytes == u64::MAX {
            // Nobody has said how long the log is: it is as long as it is.
            known.log_bytes = reader.length().await?;
        }
        reader.seek(start, known.log_bytes).await?;
        let stop = length.map_or(u64::MAX, |length| reader.offset().saturating_add(length));
        loop {
            while reader.offset() < known.log_bytes.min(stop) {
                items.ready().await;
                for chunk in reader.read(known.log_bytes.min(stop)).await?.chunks {
                    items.send(Item::Output(chunk)).await?;
                }
            }
            if !follow || known.finished || reader.offset() >= stop {
                return Ok(());
            }
            let seen = known.log_bytes;
            let want = move |engine: &mut Engine| engine.want_output(id, seen);
            self.service.engine.tell(want).await?;
            let news = |now: &Progress| now.finished || now.log_bytes > seen;
            known = match progress.wait_for(news).await {
                Ok(now) => *now,
                Err(_) => return Err(crate::engine::Stopped.into()),
            };
            if known.log_bytes == u64::MAX {
                known.log_bytes = reader.length().await?;
            }
        }
    }
}

fn path(bytes: &Blob) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}
