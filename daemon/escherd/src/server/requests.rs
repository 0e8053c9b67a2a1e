//! Answering requests: each becomes one call of the engine, and its result becomes a single reply
//! or a stream of items.

use std::sync::Arc;

use escher_protocol::message::{DaemonInfo, EventsRequest, Item, OutputRequest};
use escher_protocol::output::OutputRange;
use escher_protocol::{ApiError, ErrorCode, Request, RequestId, Response, ServerFrame, Target};
use tracing::debug;

use super::ServerContext;
use super::outbox::{Disconnected, ItemSender, Outbox, Window};
use crate::api::{ExecutionEngine, Executions, ResultPart};
use crate::execution::StdinWrite;

/// The reason why a stream ended early.
enum StreamError {
    /// An error for the client.
    Api(ApiError),
    Disconnected,
}

impl From<ApiError> for StreamError {
    fn from(error: ApiError) -> Self {
        StreamError::Api(error)
    }
}

impl From<Disconnected> for StreamError {
    fn from(_: Disconnected) -> Self {
        StreamError::Disconnected
    }
}

/// Answers a request with the authority of `engine`. Dropping the future abandons the request.
pub(super) async fn answer_request(
    id: RequestId,
    request: Request,
    engine: ExecutionEngine,
    context: Arc<ServerContext>,
    outbox: Outbox,
    window: Arc<Window>,
) {
    debug!(request = id.0, "received {}", name_of(&request));
    let items = ItemSender {
        id,
        outbox: &outbox,
        window: &window,
    };
    let streaming = match request {
        Request::Result(target) => send_result(&engine, target, &items).await,
        Request::List(selection) => send_list(engine.list_executions(selection), &items).await,
        Request::ReadOutput(request) => send_output(&engine, request, &items).await,
        Request::Events(request) => send_events(&engine, request, &items).await,
        request => {
            let result = single_reply(request, &engine, &context).await;
            let _ = outbox.send(&ServerFrame::Reply { id, result }).await;
            return;
        }
    };
    let result = match streaming {
        Ok(()) => Ok(()),
        Err(StreamError::Api(error)) => Err(error),
        Err(StreamError::Disconnected) => return,
    };
    let _ = outbox.send(&ServerFrame::End { id, result }).await;
}

/// Returns the name of a request, for the log.
fn name_of(request: &Request) -> &'static str {
    match request {
        Request::Submit(_) => "Submit",
        Request::Status(_) => "Status",
        Request::Wait(_) => "Wait",
        Request::Result(_) => "Result",
        Request::List(_) => "List",
        Request::Cancel { .. } => "Cancel",
        Request::Signal { .. } => "Signal",
        Request::Pause(_) => "Pause",
        Request::Resume(_) => "Resume",
        Request::WriteStdin { .. } => "WriteStdin",
        Request::ReadOutput(_) => "ReadOutput",
        Request::Events(_) => "Events",
        Request::Remove(_) => "Remove",
        Request::Prune(_) => "Prune",
        Request::Info => "Info",
        Request::Diagnose => "Diagnose",
        Request::Metrics => "Metrics",
        Request::Settings => "Settings",
        Request::Reload => "Reload",
        Request::Cleanup => "Cleanup",
        Request::Quota(_) => "Quota",
    }
}

/// Carries out a request that is answered by a single reply. Returns the response in it.
async fn single_reply(
    request: Request,
    engine: &ExecutionEngine,
    context: &ServerContext,
) -> Result<Response, ApiError> {
    let execution = |record| Ok(Response::Execution(Box::new(record)));
    match request {
        Request::Submit(request) => engine.execute(*request).await.map(Response::Submitted),
        Request::Status(target) => execution(engine.get_status(target).await?),
        Request::Wait(target) => execution(engine.wait_for_completion(target).await?),
        Request::Cancel { target, mode } => engine.cancel(target, mode).await.map(Response::Cancel),
        Request::Signal { target, signal } => {
            engine.signal(target, signal).await?;
            Ok(Response::Done)
        }
        Request::Pause(target) => {
            engine.pause(target).await?;
            Ok(Response::Done)
        }
        Request::Resume(target) => {
            engine.resume(target).await?;
            Ok(Response::Done)
        }
        Request::WriteStdin {
            target,
            offset,
            data,
            end,
        } => {
            let write = StdinWrite { offset, data, end };
            let offset = engine.write_stdin(target, write).await?;
            Ok(Response::StdinAccepted { offset })
        }
        Request::Info => Ok(Response::Info(Box::new(
            current_info(engine, context).await?,
        ))),
        Request::Remove(target) => engine.remove_execution(target).await.map(Response::Removed),
        Request::Prune(selection) => engine.prune(selection).await.map(Response::Removed),
        Request::Cleanup => engine.cleanup_old_executions().await.map(Response::Removed),
        Request::Quota(user) => engine.quota(user).await.map(Response::Quotas),
        Request::Metrics => Ok(Response::Metrics(context.metrics().await?.into())),
        Request::Diagnose => context.diagnose(engine).await.map(Response::Diagnostics),
        Request::Settings => Ok(Response::Settings(context.configuration.list())),
        Request::Reload => {
            let permit = engine.authorize_admin()?;
            let reloaded = context.configuration.reload(permit, engine).await?;
            Ok(Response::Reloaded(reloaded))
        }
        // `answer_request` answers these.
        Request::Result(_) | Request::List(_) | Request::ReadOutput(_) | Request::Events(_) => {
            Err(ApiError::new(
                ErrorCode::INTERNAL,
                "escherd answered a request for a stream by a single reply: this is a bug in escherd",
            ))
        }
    }
}

/// Completes the static information about this escherd with current values.
async fn current_info(
    engine: &ExecutionEngine,
    context: &ServerContext,
) -> Result<DaemonInfo, ApiError> {
    let counts = engine.counts().await?;
    let settings = engine.settings();
    Ok(DaemonInfo {
        launcher_pid: engine.launcher_pid(),
        pending: counts.pending as u64,
        running: counts.running as u64,
        finished: engine.finished_count(),
        max_concurrent_executions: counts.max_concurrent as u64,
        max_pending_executions: settings.max_pending_executions as u64,
        default_timeout_ms: settings.request.default_timeout_ms,
        max_timeout_ms: settings.request.max_timeout_ms,
        max_output_size_bytes: settings.output.max_bytes,
        ..context.static_info.clone()
    })
}

async fn send_list(mut executions: Executions, items: &ItemSender<'_>) -> Result<(), StreamError> {
    while let Some(record) = executions.next().await {
        items.send(Item::Execution(Box::new(record?))).await?;
    }
    Ok(())
}

async fn send_events(
    engine: &ExecutionEngine,
    request: EventsRequest,
    items: &ItemSender<'_>,
) -> Result<(), StreamError> {
    let mut events = engine.events(request).await?;
    while let Some(event) = events.next().await {
        items.send(Item::Event(event?)).await?;
    }
    Ok(())
}

async fn send_output(
    engine: &ExecutionEngine,
    request: OutputRequest,
    items: &ItemSender<'_>,
) -> Result<(), StreamError> {
    let range = OutputRange {
        streams: request.streams,
        start: request.start,
        length: request.length,
    };
    let mut output = engine
        .read_output(request.target, range, request.follow)
        .await?;
    loop {
        items.ready().await;
        match output.next().await {
            Some(chunk) => items.send(Item::Output(chunk?)).await?,
            None => return Ok(()),
        }
    }
}

async fn send_result(
    engine: &ExecutionEngine,
    target: Target,
    items: &ItemSender<'_>,
) -> Result<(), StreamError> {
    let mut result = engine.read_result(target).await?;
    let record = Box::new(result.record().clone());
    items.send(Item::Execution(record)).await?;
    loop {
        items.ready().await;
        let Some(part) = result.next().await? else {
            return Ok(());
        };
        let item = match part {
            ResultPart::Output(chunk) => Item::Output(chunk),
            ResultPart::Omitted(omission) => Item::Omitted(omission),
        };
        items.send(item).await?;
    }
}
