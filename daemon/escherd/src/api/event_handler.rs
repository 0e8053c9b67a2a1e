//! Handlers of events: functions that are called as things happen.

use std::collections::HashSet;
use std::sync::Arc;

use escher_protocol::message::{EventKind, EventsRequest, ListFilter, Selection};
use escher_protocol::{
    ApiError, ErrorCode, ExecutionEvent, ExecutionId, OutputChunk, OutputRange, OutputStream,
    Status, Timestamp,
};
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use super::ExecutionEngine;

/// A handler at work. It is called no more once this is dropped.
#[derive(Debug)]
#[must_use = "a handler that is dropped hears nothing"]
pub struct EventHandler {
    task: AbortHandle,
}

impl Drop for EventHandler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ExecutionEngine {
    /// Has `handler` told of this user's executions that start from now on: each from its start, with its output,
    /// to its end. Of one that never starts it is told the end.
    ///
    /// What happens to one execution comes in order and one at a time; several are told of side by side. The
    /// handler is called by tasks of the engine's, so it must not block: one that has to wait for something hands
    /// over to a channel.
    ///
    /// An execution that is removed before all of it was told gets no end, and output that is not in the log any
    /// more is passed over.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn add_event_handler(
        &self,
        handler: impl Fn(ExecutionEvent) + Send + Sync + 'static,
    ) -> Result<EventHandler, ApiError> {
        let teller = Teller {
            engine: self.clone(),
            handler: Arc::new(handler),
        };
        let now = self.now().await?;
        let task = tokio::spawn(teller.hear(now));
        Ok(EventHandler {
            task: task.abort_handle(),
        })
    }

    /// Where things stand, at one moment.
    async fn now(&self) -> Result<Moment, ApiError> {
        let newest = EventsRequest {
            after: Some(u64::MAX),
            follow: false,
        };
        let running = Selection {
            filter: ListFilter {
                statuses: vec![Status::Running],
                ..ListFilter::default()
            },
            ..Selection::default()
        };
        self.ask(move |engine, scope| {
            let running = engine.list(scope, &running, u64::MAX, usize::MAX).records;
            Ok(Moment {
                newest: engine.events(scope, &newest, 0)?.seen,
                running: running.into_iter().map(|record| record.id).collect(),
            })
        })
        .await?
    }
}

/// Where things stand.
struct Moment {
    /// The sequence number of the event that was told last.
    newest: u64,
    /// What has started and is not over.
    running: HashSet<ExecutionId>,
}

/// Tells one handler.
#[derive(Clone)]
struct Teller {
    engine: ExecutionEngine,
    handler: Arc<dyn Fn(ExecutionEvent) + Send + Sync>,
}

impl Teller {
    /// Tells what happens from `moment` on, until the engine stops.
    async fn hear(self, moment: Moment) {
        // Dropped with the handler, and with it every task that still tells of something.
        let mut tellers = JoinSet::new();
        let Moment {
            mut newest,
            running: mut started,
        } = moment;
        loop {
            let request = EventsRequest {
                after: Some(newest),
                follow: true,
            };
            let Ok(mut events) = self.engine.events(request).await else {
                return;
            };
            let error = loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    Some(_) = tellers.join_next() => continue,
                };
                match event {
                    Some(Ok(event)) => {
                        let since = match event.kind {
                            EventKind::Started => {
                                started.insert(event.id);
                                Some(event.time)
                            }
                            EventKind::Finished(_) if !started.remove(&event.id) => None,
                            _ => continue,
                        };
                        tellers.spawn(self.clone().tell(event.id, since));
                    }
                    Some(Err(error)) => break error,
                    None => return,
                }
            };
            if error.code != ErrorCode::EVENTS_MISSED {
                return;
            }
            warn!(%error, "a handler is not told of what happened meanwhile");
            match self.engine.now().await {
                Ok(now) => (newest, started) = (now.newest, now.running),
                Err(_) => return,
            }
        }
    }

    /// Tells the story of one execution; `since` is when it has started, if it has.
    async fn tell(self, id: ExecutionId, since: Option<Timestamp>) {
        if let Some(at) = since {
            (self.handler)(ExecutionEvent::Started { id, at });
            let mut seen = 0;
            if self.tell_output(id, &mut seen).await.is_err() {
                // Perhaps it cannot be had yet: too many logs are being read, say.
                let _ = self.engine.wait_for_completion(id).await;
                let _ = self.tell_output(id, &mut seen).await;
            }
        }
        if let Ok(record) = self.engine.wait_for_completion(id).await
            && let Some(end) = ExecutionEvent::from_finished(record)
        {
            (self.handler)(end);
        }
    }

    /// Tells the output from the byte `seen` of the log on, and moves that on.
    async fn tell_output(&self, id: ExecutionId, seen: &mut u64) -> Result<(), ApiError> {
        let rest = OutputRange::from_offset(*seen);
        let mut output = self.engine.follow(id, rest).await?;
        while let Some(chunk) = output.next().await {
            let OutputChunk {
                stream,
                offset,
                data,
                ..
            } = chunk?;
            *seen = offset + data.len() as u64;
            (self.handler)(match stream {
                OutputStream::Stdout => ExecutionEvent::Stdout { id, data },
                OutputStream::Stderr => ExecutionEvent::Stderr { id, data },
            });
        }
        Ok(())
    }
}
