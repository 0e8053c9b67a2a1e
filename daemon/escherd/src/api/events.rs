//! Events of executions.

use std::collections::VecDeque;

use escher_protocol::ApiError;
use escher_protocol::message::{Event, EventsRequest};
use tokio::sync::watch;

use super::{ExecutionEngine, scheduler_stopped};

/// Maximum number of events that are copied from the scheduler at once.
const MAX_PAGE_EVENTS: usize = 64;

/// Events of executions, in the order in which they happened.
#[derive(Debug)]
pub struct Events {
    engine: ExecutionEngine,
    /// The request for the events that follow `page`.
    request: EventsRequest,
    changes: watch::Receiver<u64>,
    page: VecDeque<Event>,
    is_over: bool,
}

impl ExecutionEngine {
    /// Returns events of this user's executions.
    ///
    /// # Errors
    /// `shutting-down`.
    pub async fn events(&self, request: EventsRequest) -> Result<Events, ApiError> {
        Ok(Events {
            changes: self.watch_events().await?,
            engine: self.clone(),
            request,
            page: VecDeque::new(),
            is_over: false,
        })
    }

    /// Returns a watch that changes with every event, of whichever user.
    pub(crate) async fn watch_events(&self) -> Result<watch::Receiver<u64>, ApiError> {
        self.call(|scheduler, _| scheduler.watch_events()).await
    }

    /// Returns all events since this engine was started, and then new ones.
    pub(crate) async fn events_since_start(&self) -> Result<Events, ApiError> {
        let last_earlier_event = self.call(|scheduler, _| scheduler.last_earlier_event());
        self.events(EventsRequest {
            after: Some(last_earlier_event.await?),
            follow: true,
        })
        .await
    }
}

impl Events {
    /// Returns the next event; `None` at the end, which comes only if the request does not follow.
    /// Nothing comes after an error, which is `events-missed` or `shutting-down`. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        if self.is_over {
            return None;
        }
        let next = self.advance().await;
        self.is_over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    /// Continues with new events, where the request did not ask for them.
    pub(crate) fn follow(&mut self) {
        self.request.follow = true;
        self.is_over = false;
    }

    async fn advance(&mut self) -> Result<Option<Event>, ApiError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Ok(Some(event));
            }
            self.changes.borrow_and_update();
            let request = self.request.clone();
            let page = self
                .engine
                .call(move |scheduler, scope| scheduler.events(scope, &request, MAX_PAGE_EVENTS))
                .await??;
            let has_progressed = self.request.after != Some(page.seen);
            self.request.after = Some(page.seen);
            self.page = page.events.into();
            if has_progressed {
                continue;
            }
            if !self.request.follow {
                return Ok(None);
            }
            self.changes.changed().await.map_err(scheduler_stopped)?;
        }
    }
}
