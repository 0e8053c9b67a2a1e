//! Calls a function of the program with everything that happens to executions.
//!
//! The stream of events says which executions there are. Each is reported by a task of its own, which
//! follows its output, so that an execution with much output does not hold up the others.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use escher_protocol::event_delivery::{ExecutionSource, ExecutionTracker};
use escher_protocol::message::{Condition, EventsRequest, EventsStart, ListFilter, Property};
use escher_protocol::{
    ExecutionEvent, ExecutionId, ExecutionRecord, OutputItem, OutputRange, Status,
};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::client::Client;
use crate::error::Error;
use crate::stream::EventStream;

type Handler = Arc<dyn Fn(ExecutionEvent) + Send + Sync>;

/// # Event handlers
impl Client {
    /// Calls `handler` with what happens to the executions that this user may see and that start from
    /// now on: for each its start, its output, and its end. An execution that never starts is reported
    /// by its end alone.
    ///
    /// The events of one execution come in order and one at a time; several executions are reported
    /// concurrently. `handler` runs in tasks of the client, so it must not block; send the events to a
    /// channel for anything slow. It is called until the returned [`EventSubscription`] is dropped.
    ///
    /// If an execution is removed before it was reported completely, its end is not reported. Output
    /// that is no longer in the log is skipped. At most half of the requests in flight that escherd
    /// allows on a connection are used; further executions are reported when earlier ones are finished.
    ///
    /// # Errors
    /// [`Error::DaemonUnavailable`] or [`Error::Disconnected`] if escherd cannot be reached.
    ///
    /// # Cancellation
    /// If the future is dropped, `handler` is never called.
    pub async fn add_event_handler(
        &self,
        handler: impl Fn(ExecutionEvent) + Send + Sync + 'static,
    ) -> Result<EventSubscription, Error> {
        let dispatcher = Dispatcher::new(self.clone(), Arc::new(handler)).await?;
        let (sender, failure) = watch::channel(None);
        let task = tokio::spawn(async move {
            let error = dispatcher.run().await;
            sender.send_replace(Some(error));
        });
        Ok(EventSubscription {
            failure,
            task: task.abort_handle(),
        })
    }
}

/// The subscription of an event handler, made by [`Client::add_event_handler`].
///
/// Dropping it ends the subscription. A call of the handler that runs at that moment is the last one.
#[must_use = "dropping the subscription ends it"]
pub struct EventSubscription {
    failure: watch::Receiver<Option<Error>>,
    task: AbortHandle,
}

impl EventSubscription {
    /// Waits until the subscription fails, and returns why.
    ///
    /// It fails when the connection is lost and not replaced, and with the error code `events-missed`
    /// when, after a reconnect, escherd no longer has all events since. It can be called again.
    ///
    /// # Cancellation
    /// Cancel safe.
    pub async fn failure(&self) -> Error {
        let mut failure = self.failure.clone();
        let failure = failure.wait_for(Option::is_some).await;
        failure
            .map_or(None, |failure| failure.clone())
            .unwrap_or_else(Error::connection_aborted)
    }
}

impl Drop for EventSubscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for EventSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSubscription").finish_non_exhaustive()
    }
}

/// Reads the events, and spawns a task for each execution to report.
struct Dispatcher {
    client: Client,
    handler: Handler,
    events: EventStream,
    tracker: ExecutionTracker,
    reports: JoinSet<Result<(), Error>>,
    /// Each report has a request in flight. The limit leaves some for the rest of the program.
    max_reports: usize,
}

impl Dispatcher {
    async fn new(client: Client, handler: Handler) -> Result<Self, Error> {
        let max_in_flight = client.welcome().limits.max_requests_in_flight as usize;
        // The list comes first: the events then include whatever started after it was made.
        let mut tracker = ExecutionTracker::new(running(&client).await?);
        let mut new_events = EventsRequest {
            follow: true,
            ..EventsRequest::default()
        };
        let mut past_events = client.events(EventsRequest::default()).await?;
        while let Some(event) = past_events.next().await {
            let event = event?;
            new_events.start = EventsStart::After(event.sequence);
            // Past events only update the tracker.
            let _ = tracker.observe(&event);
        }
        Ok(Dispatcher {
            events: client.events(new_events).await?,
            client,
            handler,
            tracker,
            reports: JoinSet::new(),
            max_reports: (max_in_flight / 2).max(1),
        })
    }

    /// Runs until it fails.
    async fn run(mut self) -> Error {
        loop {
            tokio::select! {
                Some(report) = self.reports.join_next() => match report {
                    // A refusal concerns one execution alone: it was removed.
                    Ok(Ok(()) | Err(Error::Api(_))) => {}
                    Ok(Err(error)) => return error,
                    // The handler panicked, and the panic hook has reported it.
                    Err(_) => {}
                },
                event = self.events.next(), if self.reports.len() < self.max_reports => match event {
                    Some(Ok(event)) => if let Some(report) = self.tracker.observe(&event) {
                        let source = ClientSource(self.client.clone());
                        let handler = Arc::clone(&self.handler);
                        self.reports
                            .spawn(async move { report.deliver(&source, &*handler).await });
                    },
                    Some(Err(error)) => return error,
                    None => return Error::connection_aborted(),
                },
            }
        }
    }
}

struct ClientSource(Client);

impl ExecutionSource for ClientSource {
    type Error = Error;

    async fn finished(&self, id: ExecutionId) -> Result<ExecutionRecord, Error> {
        self.0.wait_for_completion(id).await
    }

    async fn follow_output(
        &self,
        id: ExecutionId,
        offset: u64,
        receive: &mut (dyn FnMut(OutputItem) + Send),
    ) -> Result<(), Error> {
        let mut output = self.0.follow(id, OutputRange::from_offset(offset)).await?;
        while let Some(item) = output.next().await {
            receive(item?);
        }
        Ok(())
    }

    fn is_refusal(error: &Error) -> bool {
        matches!(error, Error::Api(_))
    }
}

/// Returns the executions that are running now.
async fn running(client: &Client) -> Result<HashSet<ExecutionId>, Error> {
    let filter = ListFilter {
        conditions: vec![Condition::is(Property::Status(Status::Running))],
        ..ListFilter::default()
    };
    let mut executions = client.list_executions(filter).await?;
    let mut running = HashSet::new();
    while let Some(record) = executions.next().await {
        running.insert(record?.id);
    }
    Ok(running)
}
