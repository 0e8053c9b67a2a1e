//! Telling a program what happens to executions.
//!
//! Which executions there are comes from the events. Each is then told of by a task of its own, which follows
//! its output, so that one that writes much holds up no other.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use escher_protocol::message::{Event, EventKind, EventsRequest, ListFilter};
use escher_protocol::{ExecutionEvent, ExecutionId, OutputRange, OutputStream, Status, Timestamp};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::client::Client;
use crate::error::Error;
use crate::session::aborted;
use crate::stream::Events;

pub(crate) type Handler = Arc<dyn Fn(ExecutionEvent) + Send + Sync>;

/// What [`Client::add_event_handler`] has begun. Dropping it ends it; a call that is under way then is the
/// last.
#[must_use = "a handler that is dropped is told nothing"]
pub struct EventHandler {
    failure: watch::Receiver<Option<Error>>,
    task: AbortHandle,
}

impl EventHandler {
    /// Waits until the handler cannot be told any more, and says why: escherd went away for too long, or
    /// so much has happened meanwhile that some of it is no longer kept (`events-missed`).
    pub async fn failure(&self) -> Error {
        let mut failure = self.failure.clone();
        let failure = failure.wait_for(Option::is_some).await;
        // Without a word only with the runtime.
        failure
            .map_or(None, |failure| failure.clone())
            .unwrap_or_else(aborted)
    }
}

impl Drop for EventHandler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for EventHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHandler").finish_non_exhaustive()
    }
}

/// Tells `handler` of what starts from now on.
pub(crate) async fn start(client: Client, handler: Handler) -> Result<EventHandler, Error> {
    let dispatcher = Dispatcher::from_now(client, handler).await?;
    let (tell, failure) = watch::channel(None);
    let task = tokio::spawn(async move {
        let error = dispatcher.run().await;
        tell.send_replace(Some(error));
    });
    Ok(EventHandler {
        failure,
        task: task.abort_handle(),
    })
}

/// Hears of all executions, and has a [`Reporter`] for each that is to be told of.
struct Dispatcher {
    client: Client,
    handler: Handler,
    events: Events,
    /// Executions that have started and are not over, told of or not.
    started: HashSet<ExecutionId>,
    reporters: JoinSet<Result<(), Error>>,
    /// Most reporters at once: each has a request under way, and others want to ask, too.
    most: usize,
}

impl Dispatcher {
    async fn from_now(client: Client, handler: Handler) -> Result<Self, Error> {
        let in_flight = client.welcome().limits.max_requests_in_flight as usize;
        // In this order: what starts after the list is made is among the events.
        let mut started = running(&client).await?;
        let past = EventsRequest {
            after: None,
            follow: false,
        };
        let mut from_now = EventsRequest {
            follow: true,
            ..past
        };
        let mut events = client.events(past).await?;
        while let Some(event) = events.next().await {
            let Event {
                sequence, id, kind, ..
            } = event?;
            from_now.after = Some(sequence);
            match kind {
                EventKind::Started => drop(started.insert(id)),
                EventKind::Finished(_) => drop(started.remove(&id)),
                EventKind::Submitted | EventKind::CancelRequested(_) => {}
            }
        }
        Ok(Dispatcher {
            events: client.events(from_now).await?,
            client,
            handler,
            started,
            reporters: JoinSet::new(),
            most: (in_flight / 2).max(1),
        })
    }

    /// Goes on until it cannot; why that is.
    async fn run(mut self) -> Error {
        loop {
            tokio::select! {
                Some(reported) = self.reporters.join_next() => match reported {
                    // What concerns one execution alone: it was removed.
                    Ok(Ok(()) | Err(Error::Api(_))) => {}
                    Ok(Err(error)) => return error,
                    // The handler has panicked, which has been told of; the next call may go well.
                    Err(_) => {}
                },
                event = self.events.next(), if self.reporters.len() < self.most => match event {
                    Some(Ok(event)) => self.heed(&event),
                    Some(Err(error)) => return error,
                    None => return aborted(),
                },
            }
        }
    }

    fn heed(&mut self, event: &Event) {
        let started_at = match event.kind {
            EventKind::Started => {
                self.started.insert(event.id);
                Some(event.time)
            }
            EventKind::Finished(_) if !self.started.remove(&event.id) => None,
            // Its reporter sees the end by itself, or it started too early to have one.
            EventKind::Finished(_) => return,
            EventKind::Submitted | EventKind::CancelRequested(_) => return,
        };
        let reporter = Reporter {
            client: self.client.clone(),
            handler: Arc::clone(&self.handler),
            id: event.id,
        };
        self.reporters.spawn(reporter.report(started_at));
    }
}

/// Tells of one execution.
struct Reporter {
    client: Client,
    handler: Handler,
    id: ExecutionId,
}

impl Reporter {
    /// `started_at` is when it has started. Without that it is over: it never started, or did while escherd
    /// was away.
    async fn report(self, started_at: Option<Timestamp>) -> Result<(), Error> {
        let (client, id) = (&self.client, self.id);
        let started_at = match started_at {
            Some(at) => Some(at),
            None => client.wait_for_completion(id).await?.started_at,
        };
        if let Some(at) = started_at {
            (self.handler)(ExecutionEvent::Started { id, at });
            self.report_output().await?;
        }
        let record = client.wait_for_completion(id).await?;
        if let Some(end) = ExecutionEvent::from_finished(record) {
            (self.handler)(end);
        }
        Ok(())
    }

    async fn report_output(&self) -> Result<(), Error> {
        let mut seen = 0;
        let mut reported = self.follow_output(&mut seen).await;
        if let Err(Error::Api(_)) = reported {
            // Perhaps it cannot be had yet. The end is told in any case, with or without the output.
            self.client.wait_for_completion(self.id).await?;
            reported = self.follow_output(&mut seen).await;
        }
        match reported {
            Err(Error::Api(_)) => Ok(()),
            reported => reported,
        }
    }

    /// Tells the output from the byte `seen` of the log on, and moves that on.
    async fn follow_output(&self, seen: &mut u64) -> Result<(), Error> {
        let id = self.id;
        let rest = OutputRange::from_offset(*seen);
        let mut output = self.client.follow(id, rest).await?;
        while let Some(chunk) = output.next().await {
            let chunk = chunk?;
            *seen = chunk.offset.saturating_add(chunk.data.len() as u64);
            let data = chunk.data;
            (self.handler)(match chunk.stream {
                OutputStream::Stdout => ExecutionEvent::Stdout { id, data },
                OutputStream::Stderr => ExecutionEvent::Stderr { id, data },
            });
        }
        Ok(())
    }
}

/// The executions that run now.
async fn running(client: &Client) -> Result<HashSet<ExecutionId>, Error> {
    let filter = ListFilter {
        statuses: vec![Status::Running],
        ..ListFilter::default()
    };
    let mut executions = client.list_executions(filter).await?;
    let mut running = HashSet::new();
    while let Some(record) = executions.next().await {
        running.insert(record?.id);
    }
    Ok(running)
}
