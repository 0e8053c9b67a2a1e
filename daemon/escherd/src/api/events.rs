//! What happens to executions.

use std::collections::VecDeque;

use escher_protocol::ApiError;
use escher_protocol::message::{Event, EventsRequest};
use tokio::sync::watch;

use super::{ExecutionEngine, stopping};

/// Events that are taken at once.
const PAGE: usize = 256;

/// Events, in the order in which they happened.
#[derive(Debug)]
pub struct Events {
    engine: ExecutionEngine,
    request: EventsRequest,
    changes: watch::Receiver<u64>,
    page: VecDeque<Event>,
    is_over: bool,
}

impl ExecutionEngine {
    /// What happens to the executions of this user.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn events(&self, request: EventsRequest) -> Result<Events, ApiError> {
        Ok(Events {
            changes: self.changes().await?,
            engine: self.clone(),
            request,
            page: VecDeque::new(),
            is_over: false,
        })
    }

    /// Changes with everything that happens.
    pub(crate) async fn changes(&self) -> Result<watch::Receiver<u64>, ApiError> {
        self.ask(|engine, _| engine.watch_events()).await
    }

    /// As [`ExecutionEngine::events`]: all that this engine tells of itself, and of an earlier one nothing.
    pub(crate) async fn own_events(&self) -> Result<Events, ApiError> {
        let after = self.ask(|engine, _| engine.inherited_events()).await?;
        self.events(EventsRequest {
            after: Some(after),
            follow: true,
        })
        .await
    }
}

impl Events {
    /// The next event; `None` at the end, which comes only where nothing is to be followed. An error is the
    /// last that it gives: `events-missed`, or that the engine has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        if self.is_over {
            return None;
        }
        let next = self.advance().await;
        self.is_over = !matches!(next, Ok(Some(_)));
        next.transpose()
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
                .ask(move |engine, scope| engine.events(scope, &request, PAGE))
                .await??;
            let progressed = self.request.after != Some(page.seen);
            self.request.after = Some(page.seen);
            self.page = page.events.into();
            if progressed {
                continue;
            }
            if !self.request.follow {
                return Ok(None);
            }
            self.changes.changed().await.map_err(stopping)?;
        }
    }
}
