//! Answering requests: each becomes one call of the engine, and its result becomes a single reply
//! or a stream of items.

use std::sync::Arc;

use escher_protocol::message::{DaemonInfo, EventsRequest, Item, OutputRequest};
use escher_protocol::output::OutputRange;
use escher_protocol::{
    ApiError, Command, ErrorCode, OutputItem, Request, RequestId, Response, ServerFrame, Target,
};
use tracing::debug;

use super::ServerContext;
use super::memory::{Charge, UserMemory};
use super::outbox::{Disconnected, ItemSender, Outbox, Window};
use crate::api::{ExecutionEngine, Executions, ResultPart, RunningUsages, SignalRequest};
use crate::execution::StdinWrite;

/// Memory of a request in flight, besides what the client has sent.
pub(super) const REQUEST_BYTES: usize = 4 * 1024;

/// Memory of an element of a list in a request: its header, and the least that is allocated for it.
const ELEMENT_BYTES: usize = 56;

/// Memory of the events that a stream has read and not sent yet.
const EVENTS_BYTES: usize = 64 * 1024;

/// Memory of the questions to shims for what running executions use.
const USAGE_QUESTIONS_BYTES: usize = 16 * 1024;

/// Memory for an answer with a record, metrics, settings or diagnostics.
pub(super) const ANSWER_BYTES: usize = 64 * 1024;

/// Returns the memory that a request takes until it is answered, when `length` is that of its frame.
pub(super) fn memory_of(request: &Request, length: usize) -> usize {
    let (elements, read) = match request {
        Request::Submit(request) => {
            let arguments = match &request.command {
                Command::Exec { argv } => argv.len(),
                Command::Shell { .. } => 0,
                Command::Script { arguments, .. } => arguments.len(),
            };
            let variables = request.inherited.len() + request.environment.len();
            let pairs = variables + request.labels.len();
            (arguments + 2 * pairs, 0)
        }
        // A condition has at most two texts.
        Request::List(selection) | Request::Prune { selection, .. } => {
            (2 * selection.filter.conditions.len(), 0)
        }
        Request::Events(request) => (request.filter.statuses.len(), EVENTS_BYTES),
        Request::MeasureRunning => (0, USAGE_QUESTIONS_BYTES),
        _ => (0, 0),
    };
    REQUEST_BYTES + length + elements * ELEMENT_BYTES + read
}

/// Adds where the maximum is set that a request was over.
fn with_origin(error: ApiError, context: &ServerContext) -> ApiError {
    let setting = "execution.max_timeout_ms";
    match context.configuration.origin(setting) {
        Some(origin) if error.code == ErrorCode::TIMEOUT_TOO_LONG => error.with_hint(format!(
            "set a shorter timeout, or ask an administrator to raise {setting}, which is set by: {origin}"
        )),
        _ => error,
    }
}

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

/// The client of a request, and the way of answers to it.
#[derive(Clone)]
pub(super) struct Requester {
    /// The engine with the client's authority.
    pub(super) engine: ExecutionEngine,
    pub(super) context: Arc<ServerContext>,
    pub(super) outbox: Outbox,
    pub(super) memory: UserMemory,
}

/// Answers a request with the authority of its requester. Dropping the future abandons the request.
/// `charge` is the memory of the request.
pub(super) async fn answer_request(
    id: RequestId,
    request: Request,
    requester: Requester,
    window: Arc<Window>,
    mut charge: Charge,
) {
    debug!(request = id.0, "received {}", name_of(&request));
    let Requester {
        engine,
        context,
        outbox,
        memory,
    } = requester;
    context.metrics.count_request();
    let mut items = ItemSender {
        id,
        outbox: &outbox,
        window: &window,
        memory: &memory,
        charge: memory.nothing(),
    };
    let streaming = match request {
        Request::Result(target) => send_result(&engine, target, &mut items).await,
        Request::List(selection) => send_list(engine.list_executions(selection), &mut items).await,
        Request::ReadOutput(request) => send_output(&engine, request, &mut items).await,
        Request::Events(request) => send_events(&engine, request, &mut items).await,
        Request::HoldStdin(target) => hold_stdin(&engine, target, &mut items).await,
        Request::MeasureRunning => send_usages(engine.measure_running(), &mut items).await,
        request => {
            let mut answer_charge = charge_answer(&request, &memory).await;
            let result = match request {
                Request::Wait(target) => wait(&engine, target, &memory, &mut answer_charge).await,
                request => single_reply(request, &engine, &context).await,
            };
            let _ = outbox
                .send(&ServerFrame::Reply { id, result }, &mut answer_charge)
                .await;
            return;
        }
    };
    let result = match streaming {
        Ok(()) => Ok(()),
        Err(StreamError::Api(error)) => Err(error),
        Err(StreamError::Disconnected) => return,
    };
    let _ = outbox
        .send(&ServerFrame::End { id, result }, &mut charge)
        .await;
}

/// Waits for the memory of an answer that may be long, before it is made. Others are short.
pub(super) async fn charge_answer(request: &Request, memory: &UserMemory) -> Charge {
    match request {
        Request::Status(_) | Request::Diagnose | Request::Metrics | Request::Settings => {
            memory.charge(ANSWER_BYTES).await
        }
        _ => memory.nothing(),
    }
}

/// Waits until an execution is finished. Without room for its record, which may take a while, the
/// record is read again once there is.
async fn wait(
    engine: &ExecutionEngine,
    target: Target,
    memory: &UserMemory,
    answer_charge: &mut Charge,
) -> Result<Response, ApiError> {
    let mut record = engine.wait_for_completion(target).await?;
    if !answer_charge.try_resize(ANSWER_BYTES) {
        let id = record.id;
        drop(record);
        *answer_charge = memory.charge(ANSWER_BYTES).await;
        record = engine.get_status(id).await?;
    }
    Ok(Response::Execution(Box::new(record)))
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
        Request::Prune { .. } => "Prune",
        Request::Info => "Info",
        Request::Diagnose => "Diagnose",
        Request::Metrics => "Metrics",
        Request::Settings => "Settings",
        Request::Reload => "Reload",
        Request::Cleanup => "Cleanup",
        Request::Quota(_) => "Quota",
        Request::HoldStdin(_) => "HoldStdin",
        Request::LoseStdin(_) => "LoseStdin",
        Request::MeasureUsage(_) => "MeasureUsage",
        Request::MeasureRunning => "MeasureRunning",
    }
}

/// Carries out a request that is answered by a single reply. Returns the response in it.
pub(super) async fn single_reply(
    request: Request,
    engine: &ExecutionEngine,
    context: &ServerContext,
) -> Result<Response, ApiError> {
    let execution = |record| Ok(Response::Execution(Box::new(record)));
    match request {
        Request::Submit(request) => {
            let submitted = engine.execute(*request).await;
            submitted
                .map(Response::Submitted)
                .map_err(|error| with_origin(error, context))
        }
        Request::Status(target) => execution(engine.get_status(target).await?),
        Request::Cancel { target, mode } => engine.cancel(target, mode).await.map(Response::Cancel),
        Request::Signal {
            target,
            signal,
            recipients,
            serial,
        } => {
            let request = SignalRequest {
                signal,
                recipients,
                serial,
            };
            let answer = engine.send_signal(target, request).await?;
            Ok(Response::Signal(answer))
        }
        Request::Pause(target) => {
            engine.pause(target).await?;
            Ok(Response::Done)
        }
        Request::Resume(target) => {
            engine.resume(target).await?;
            Ok(Response::Done)
        }
        Request::MeasureUsage(target) => {
            let usage = engine.measure_usage(target).await?;
            Ok(Response::CurrentUsage(usage))
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
        Request::LoseStdin(target) => {
            engine.lose_stdin(target).await?;
            Ok(Response::Done)
        }
        Request::Info => Ok(Response::Info(Box::new(
            current_info(engine, context).await?,
        ))),
        Request::Remove(target) => engine.remove_execution(target).await.map(Response::Removed),
        Request::Prune { selection, dry_run } => {
            let removed = if dry_run {
                engine.count_prunable(selection).await
            } else {
                engine.prune(selection).await
            };
            removed.map(Response::Removed)
        }
        Request::Cleanup => engine.cleanup_old_executions().await.map(Response::Removed),
        Request::Quota(user) => engine.quota(user).await.map(Response::Quotas),
        Request::Metrics => Ok(Response::Metrics(context.metrics().await?.into())),
        Request::Diagnose => context.diagnose(engine).await.map(Response::Diagnostics),
        Request::Settings => Ok(Response::Settings(context.configuration.list())),
        Request::Reload => {
            let permit = engine.authorize_admin()?;
            context.reload(permit, engine).await.map(Response::Reloaded)
        }
        // `answer_request` answers these.
        Request::Wait(_)
        | Request::Result(_)
        | Request::List(_)
        | Request::ReadOutput(_)
        | Request::Events(_)
        | Request::HoldStdin(_)
        | Request::MeasureRunning => Err(ApiError::new(
            ErrorCode::INTERNAL,
            "escherd answered a request for a stream by a single reply: this is a bug in escherd",
        )),
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
        finished: engine.finished_count().await,
        max_concurrent_executions: counts.max_concurrent as u64,
        max_pending_executions: settings.max_pending_executions as u64,
        default_timeout_ms: settings.request.default_timeout_ms,
        max_timeout_ms: settings.request.max_timeout_ms,
        max_output_size_bytes: settings.output.max_bytes,
        ..context.static_info.clone()
    })
}

async fn send_list(
    mut executions: Executions,
    items: &mut ItemSender<'_>,
) -> Result<(), StreamError> {
    loop {
        items.wait_until_sendable(executions.must_read()).await;
        let Some(record) = executions.next().await else {
            return Ok(());
        };
        items.send(Item::Execution(Box::new(record?))).await?;
    }
}

async fn send_events(
    engine: &ExecutionEngine,
    request: EventsRequest,
    items: &mut ItemSender<'_>,
) -> Result<(), StreamError> {
    let mut events = engine.events(request).await?;
    let sequence = events.position();
    items.send(Item::EventsAfter { sequence }).await?;
    while let Some(event) = events.next().await {
        items.send(Item::Event(event?)).await?;
    }
    Ok(())
}

async fn send_usages(
    mut usages: RunningUsages,
    items: &mut ItemSender<'_>,
) -> Result<(), StreamError> {
    while let Some(usage) = usages.next().await {
        items.send(Item::Usage(usage?)).await?;
    }
    Ok(())
}

/// Holds a standard input until it is over, or the client gives it up.
async fn hold_stdin(
    engine: &ExecutionEngine,
    target: Target,
    items: &mut ItemSender<'_>,
) -> Result<(), StreamError> {
    let mut hold = engine.hold_stdin(target).await?;
    let offset = hold.offset();
    items.send(Item::StdinHeld { offset }).await?;
    hold.over().await;
    Ok(())
}

async fn send_output(
    engine: &ExecutionEngine,
    request: OutputRequest,
    items: &mut ItemSender<'_>,
) -> Result<(), StreamError> {
    let range = OutputRange {
        streams: request.streams,
        start: request.start,
        length: request.length,
        since: request.since,
        until: request.until,
    };
    let mut output = engine
        .read_output(request.target, range, request.follow)
        .await?;
    loop {
        output.wait_until_readable().await?;
        items.wait_until_sendable(output.must_read()).await;
        match output.next().await {
            Some(item) => items.send(wire_item(item?)).await?,
            None => return Ok(()),
        }
    }
}

fn wire_item(item: OutputItem) -> Item {
    match item {
        OutputItem::Chunk(chunk) => Item::Output(chunk),
        OutputItem::Gap(gap) => Item::Gap(gap),
    }
}

async fn send_result(
    engine: &ExecutionEngine,
    target: Target,
    items: &mut ItemSender<'_>,
) -> Result<(), StreamError> {
    let mut result = engine.read_result(target).await?;
    let record = Box::new(result.record().clone());
    items.send(Item::Execution(record)).await?;
    loop {
        items.wait_until_sendable(result.must_read()).await;
        let Some(part) = result.next().await? else {
            return Ok(());
        };
        let item = match part {
            ResultPart::Output(chunk) => Item::Output(chunk),
            ResultPart::Omitted(omission) => Item::Omitted(omission),
            ResultPart::Gap(gap) => Item::Gap(gap),
        };
        items.send(item).await?;
    }
}
