//! What has happened lately.

use std::collections::VecDeque;

use escher_protocol::message::{Event, EventKind};
use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::watch;

use crate::authz::Scope;
use crate::execution::Execution;

/// Events that are kept for those who ask later or read slowly.
pub(super) const MAX_KEPT_EVENTS: usize = 10_000;

/// The last [`MAX_KEPT_EVENTS`] events.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<Event>,
    last: watch::Sender<u64>,
}

/// Some events, and where to go on.
#[derive(Debug)]
pub struct Page {
    /// In order.
    pub events: Vec<Event>,
    /// The sequence number up to which everything was looked at.
    pub seen: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        EventLog {
            kept: VecDeque::new(),
            last: watch::Sender::new(0),
        }
    }
}

impl EventLog {
    /// Notes that `kind` has happened to `execution`.
    pub fn push(&mut self, execution: &Execution, time: Timestamp, kind: EventKind) {
        if self.kept.len() == MAX_KEPT_EVENTS {
            self.kept.pop_front();
        }
        let sequence = *self.last.borrow() + 1;
        self.kept.push_back(Event {
            sequence,
            time,
            id: execution.id,
            number: execution.number,
            name: execution.request.name.clone(),
            user: execution.submitter.clone(),
            kind,
        });
        self.last.send_replace(sequence);
    }

    /// At most `room` events in `scope` after the sequence number `after`, or from the first on.
    ///
    /// # Errors
    /// `events-missed` when there were some after `after` that are no longer kept.
    pub fn page(&self, scope: &Scope, after: Option<u64>, room: usize) -> Result<Page, ApiError> {
        let last = *self.last.borrow();
        let oldest = self.kept.front().map_or(last + 1, |event| event.sequence);
        let after = after.unwrap_or(oldest - 1).min(last);
        if after + 1 < oldest {
            let message = format!("events {} to {} are no longer kept", after + 1, oldest - 1);
            return Err(ApiError::new(ErrorCode::EVENTS_MISSED, message).with_hint(
                "look at the executions themselves, and go on with the events from here",
            ));
        }
        let skipped = usize::try_from(after + 1 - oldest).unwrap_or(usize::MAX);
        let (mut events, mut seen) = (Vec::new(), after);
        for event in self.kept.iter().skip(skipped) {
            if events.len() == room {
                break;
            }
            seen = event.sequence;
            if scope.includes(&event.user) {
                events.push(event.clone());
            }
        }
        Ok(Page { events, seen })
    }

    /// Changes with every event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}
