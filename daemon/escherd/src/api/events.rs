//! Events of executions.

use std::collections::VecDeque;

use escher_protocol::ApiError;
use escher_protocol::message::{Event, EventFilter, EventsRequest, EventsStart};
use tokio::sync::watch;

use super::{ExecutionEngine, scheduler_stopped};
use crate::authz::Scope;
use crate::scheduler::Scheduler;

/// Maximum number of events that are copied from the scheduler at once.
const MAX_PAGE_EVENTS: usize = 64;

/// Events of executions, in the order in which they happened.
#[derive(Debug)]
pub struct Events {
    engine: ExecutionEngine,
    filter: EventFilter,
    follow: bool,
    /// The sequence number after which the events lie that follow `page`.
    after: u64,
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
        let EventsRequest {
            start,
            filter,
            follow,
        } = request;
        let find = move |scheduler: &mut Scheduler, scope: &Scope| {
            let after = scheduler.events_start(scope, start, &filter);
            (scheduler.watch_events(), after, filter)
        };
        let (changes, after, filter) = self.call(find).await?;
        Ok(Events {
            changes,
            engine: self.clone(),
            filter,
            follow,
            after,
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
            start: EventsStart::After(last_earlier_event.await?),
            follow: true,
            ..EventsRequest::default()
        })
        .await
    }
}

impl Events {
    /// Returns the sequence number after which the next event lies.
    pub(crate) fn position(&self) -> u64 {
        self.after
    }

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
        self.follow = true;
        self.is_over = false;
    }

    async fn advance(&mut self) -> Result<Option<Event>, ApiError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Ok(Some(event));
            }
            self.changes.borrow_and_update();
            let (after, filter) = (self.after, self.filter.clone());
            let page = self
                .engine
                .call(move |scheduler, scope| {
                    scheduler.events(scope, after, &filter, MAX_PAGE_EVENTS)
                })
                .await??;
            let has_progressed = self.after != page.seen;
            self.after = page.seen;
            self.page = page.events.into();
            if has_progressed {
                continue;
            }
            if !self.follow {
                return Ok(None);
            }
            self.changes.changed().await.map_err(scheduler_stopped)?;
        }
    }
}
