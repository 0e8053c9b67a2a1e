//! What is asked, answered: one function per request, each a value or a stream.
//!
//! An execution that is not over, or not for long, the engine has; the others the store has. [`place`] finds
//! out which, so that nobody who asks need care.

mod forget;
mod list;
mod output;
mod place;

use std::sync::Arc;

use escher_protocol::message::{
    CancelOutcome, DaemonInfo, EventsRequest, Item, Selection, Submitted,
};
use escher_protocol::{
    ApiError, CancelMode, ErrorCode, ExecutionRecord, ExecutionRequest, Request, RequestId,
    Response, ServerFrame, Target, Timestamp,
};

use super::Service;
use super::outbox::{Gone, Items, Outbox, Window};
use crate::authz::{Caller, Scope};
use crate::engine::{self, Engine};
use crate::execution::{StdinReply, Write};
pub(crate) use forget::FORGET_AT_ONCE;
use place::Place;

/// Records or events that are taken at once.
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
        Request::List(filter) => {
            let selection = Selection {
                filter,
                ..Selection::default()
            };
            call.list(selection, &items).await
        }
        Request::Find(selection) => call.list(selection, &items).await,
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

/// The engine has gone before it has answered.
fn stopping<E>(_: E) -> ApiError {
    engine::Stopped.into()
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
        let execution = |record| Ok(Response::Execution(Box::new(record)));
        match request {
            Request::Submit(request) => self.submit(request).await.map(Response::Submitted),
            Request::Status(target) => execution(self.status(target).await?),
            Request::Wait(target) => execution(self.wait(target).await?),
            Request::Cancel { target, mode } => {
                self.cancel(target, mode).await.map(Response::Cancel)
            }
            Request::Signal { target, signal } => {
                self.signal(target, signal).await?;
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
            Request::Info => Ok(Response::Info(Box::new(self.info().await?))),
            Request::Remove(target) => self.remove(target).await.map(Response::Removed),
            Request::Prune(selection) => self.prune(selection).await.map(Response::Removed),
            // Not announced among the features.
            Request::Collect(_) | Request::Settings | Request::Reload | Request::Cleanup => {
                let message = "this escherd does not answer that";
                Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
            }
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
        let submit =
            |engine: &mut Engine, _: &Scope| engine.submit(permit, request, Timestamp::now());
        let answer = self.engine(submit).await??;
        answer.await.map_err(stopping)?
    }

    async fn status(&self, target: Target) -> Result<ExecutionRecord, ApiError> {
        match self
            .at(target, |engine, number| engine.status(number))
            .await?
        {
            Place::Engine(record) => record.await.map_err(stopping),
            Place::Store(record) => Ok(*record),
        }
    }

    async fn wait(&self, target: Target) -> Result<ExecutionRecord, ApiError> {
        match self
            .at(target, |engine, number| engine.wait(number))
            .await?
        {
            Place::Engine(record) => record.await.map_err(stopping),
            Place::Store(record) => Ok(*record),
        }
    }

    async fn cancel(&self, target: Target, mode: CancelMode) -> Result<CancelOutcome, ApiError> {
        let scope = self.scope.clone();
        let cancel = move |engine: &mut Engine, number| {
            engine.cancel(&scope, number, mode, Timestamp::now())
        };
        match self.at(target, cancel).await? {
            Place::Engine(outcome) => outcome.await.map_err(stopping)?,
            Place::Store(record) => Ok(CancelOutcome::AlreadyFinished(record.status)),
        }
    }

    async fn signal(&self, target: Target, signal: i32) -> Result<(), ApiError> {
        match self
            .at(target, move |engine, number| engine.signal(number, signal))
            .await?
        {
            Place::Engine(sent) => sent,
            Place::Store(record) => {
                engine::check_signal(signal)?;
                Err(engine::not_running(record.number, record.status))
            }
        }
    }

    async fn write_stdin(&self, target: Target, write: Write) -> StdinReply {
        let most = escher_protocol::message::MAX_STDIN_BYTES;
        if write.data.len() > most {
            let message = format!(
                "{} bytes of input at once are over {most}",
                write.data.len()
            );
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        let write = move |engine: &mut Engine, number| engine.write_stdin(number, write);
        match self.at(target, write).await? {
            Place::Engine(reply) => reply.await.map_err(stopping)?,
            Place::Store(record) => {
                let message = format!("execution {} is {}", record.number, record.status);
                Err(ApiError::new(ErrorCode::STDIN_CLOSED, message))
            }
        }
    }

    async fn info(&self) -> Result<DaemonInfo, ApiError> {
        let counts = self.engine(|engine, _| engine.counts()).await?;
        let finished = self.service.store.finished_count();
        Ok(DaemonInfo {
            launcher_pid: *self.service.launcher_pid.borrow(),
            pending: counts.pending as u64,
            running: counts.running as u64,
            finished,
            ..self.service.about.clone()
        })
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
            if !follow {
                return Ok(());
            }
            if changes.changed().await.is_err() {
                return Err(engine::Stopped.into());
            }
        }
    }
}
