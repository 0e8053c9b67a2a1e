//! Event handlers: functions of a program that are called for everything that happens to
//! executions.

use std::collections::HashSet;
use std::sync::Arc;

use escher_protocol::event_delivery::{ExecutionSource, ExecutionTracker};
use escher_protocol::message::{
    Condition, EventsRequest, EventsStart, ListFilter, Property, Selection,
};
use escher_protocol::{
    ApiError, ErrorCode, ExecutionEvent, ExecutionId, ExecutionRecord, OutputItem, OutputRange,
    Status,
};
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use super::ExecutionEngine;

type Handler = Arc<dyn Fn(ExecutionEvent) + Send + Sync>;

/// The subscription of an event handler, made by [`ExecutionEngine::add_event_handler`].
///
/// Dropping it ends the subscription. A call of the handler that runs at that moment is the last one.
#[derive(Debug)]
#[must_use = "dropping the guard ends the subscription"]
pub struct EventHandlerGuard {
    task: AbortHandle,
}

impl Drop for EventHandlerGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// # Event handlers
impl ExecutionEngine {
    /// Calls `handler` with what happens to this user's executions that start from now on: for each its
    /// start, its output, and its end. An execution that never starts is reported by its end alone.
    ///
    /// The events of one execution come in order and one at a time; several executions are reported
    /// concurrently. `handler` runs in tasks of the engine, so it must not block; send the events to a
    /// channel for anything slow. It is called until the returned [`EventHandlerGuard`] is dropped.
    ///
    /// If an execution is removed before it was reported completely, its end is not reported. Output
    /// that is no longer in the log is skipped.
    ///
    /// # Errors
    /// `shutting-down` if the engine has stopped.
    pub async fn add_event_handler(
        &self,
        handler: impl Fn(ExecutionEvent) + Send + Sync + 'static,
    ) -> Result<EventHandlerGuard, ApiError> {
        let reporter = EventReporter {
            snapshot: self.snapshot().await?,
            engine: self.clone(),
            handler: Arc::new(handler),
            reports: JoinSet::new(),
        };
        let task = tokio::spawn(reporter.run());
        Ok(EventHandlerGuard {
            task: task.abort_handle(),
        })
    }

    async fn snapshot(&self) -> Result<Snapshot, ApiError> {
        let running = Selection {
            filter: ListFilter {
                conditions: vec![Condition::is(Property::Status(Status::Running))],
                ..ListFilter::default()
            },
            ..Selection::default()
        };
        self.call(move |scheduler, scope| {
            let (mut ids, mut next) = (HashSet::new(), Some(u64::MAX));
            while let Some(before) = next {
                let page = scheduler.list(scope, &running, before, usize::MAX);
                ids.extend(page.records.iter().map(|record| record.id));
                next = page.next;
            }
            Ok(Snapshot {
                newest_event: scheduler.last_event(),
                tracker: ExecutionTracker::new(ids),
            })
        })
        .await?
    }
}

/// The running executions and the newest event at one moment.
struct Snapshot {
    /// The sequence number of the newest event.
    newest_event: u64,
    tracker: ExecutionTracker,
}

/// Reads the events, and spawns a task for each execution, which calls the handler.
struct EventReporter {
    snapshot: Snapshot,
    engine: ExecutionEngine,
    handler: Handler,
    /// Dropped with the reporter, which stops all of them.
    reports: JoinSet<()>,
}

impl EventReporter {
    /// Runs until the engine stops.
    async fn run(mut self) {
        loop {
            let error = match self.report_events().await {
                Ok(()) => return,
                Err(error) => error,
            };
            if error.code != ErrorCode::EVENTS_MISSED {
                return;
            }
            warn!(%error, "an event handler misses events");
            match self.engine.snapshot().await {
                Ok(snapshot) => self.snapshot = snapshot,
                Err(_) => return,
            }
        }
    }

    /// Reports the events after the snapshot. Returns at their end.
    async fn report_events(&mut self) -> Result<(), ApiError> {
        let request = EventsRequest {
            start: EventsStart::After(self.snapshot.newest_event),
            follow: true,
            ..EventsRequest::default()
        };
        let mut events = self.engine.events(request).await?;
        loop {
            tokio::select! {
                Some(_) = self.reports.join_next() => {}
                event = events.next() => match event {
                    Some(event) => if let Some(report) = self.snapshot.tracker.observe(&event?) {
                        let source = EngineSource(self.engine.clone());
                        let handler = Arc::clone(&self.handler);
                        self.reports.spawn(async move {
                            // Fails if the execution was removed, or the engine stops.
                            let _ = report.deliver(&source, &*handler).await;
                        });
                    },
                    None => return Ok(()),
                },
            }
        }
    }
}

struct EngineSource(ExecutionEngine);

impl ExecutionSource for EngineSource {
    type Error = ApiError;

    async fn finished(&self, id: ExecutionId) -> Result<ExecutionRecord, ApiError> {
        self.0.wait_for_completion(id).await
    }

    async fn follow_output(
        &self,
        id: ExecutionId,
        offset: u64,
        receive: &mut (dyn FnMut(OutputItem) + Send),
    ) -> Result<(), ApiError> {
        let mut output = self.0.follow(id, OutputRange::from_offset(offset)).await?;
        while let Some(item) = output.next().await {
            receive(item?);
        }
        Ok(())
    }

    fn is_refusal(_: &ApiError) -> bool {
        true
    }
}
