//! The log of recent events.

use std::collections::VecDeque;

use escher_protocol::message::{Event, EventKind};
use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::watch;

use crate::authz::Scope;
use crate::execution::Submission;

/// Events that are kept for late and slow readers.
pub const MAX_KEPT_EVENTS: usize = 10_000;

/// The last [`MAX_KEPT_EVENTS`] events. An event gets its sequence number when it happens, and is published once
/// it is committed: a number that a client has seen means the same event for ever.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<Event>,
    /// The sequence number of the last event of an earlier escherd.
    inherited: u64,
    /// The sequence number that was assigned last.
    last_assigned: u64,
    /// The sequence number that was published last.
    last_published: watch::Sender<u64>,
}

/// Some events, and where to continue.
#[derive(Debug)]
pub struct EventPage {
    /// The events, in order.
    pub events: Vec<Event>,
    /// The sequence number up to which the log was searched.
    pub seen: u64,
}

impl EventLog {
    /// Creates a log that continues after the events of an earlier escherd.
    #[must_use]
    pub fn new(kept: Vec<Event>) -> Self {
        let last = kept.last().map_or(0, |event| event.sequence);
        EventLog {
            kept: kept.into(),
            inherited: last,
            last_assigned: last,
            last_published: watch::Sender::new(last),
        }
    }

    /// Creates the event that `kind` has happened to the execution of `submission`, without publishing it.
    pub fn assign(&mut self, submission: &Submission, time: Timestamp, kind: EventKind) -> Event {
        self.last_assigned += 1;
        Event {
            sequence: self.last_assigned,
            time,
            id: submission.id,
            number: submission.number,
            name: submission.request.name.clone(),
            user: submission.submitter.clone(),
            kind,
        }
    }

    /// Publishes an event. The event of a change that the store has refused is never published; its sequence
    /// number stays unused.
    pub fn publish(&mut self, event: Event) {
        if self.kept.len() == MAX_KEPT_EVENTS {
            self.kept.pop_front();
        }
        let sequence = event.sequence;
        self.kept.push_back(event);
        self.last_published.send_replace(sequence);
    }

    /// Returns at most `limit` events in `scope` after the sequence number `after`, or from the first one.
    ///
    /// # Errors
    /// `events-missed` if events after `after` are no longer kept.
    pub fn page(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<EventPage, ApiError> {
        let last = *self.last_published.borrow();
        let oldest = self.kept.front().map_or(last + 1, |event| event.sequence);
        let after = after.unwrap_or(oldest - 1).min(last);
        // Until the log is full nothing was dropped: missing numbers were never published.
        let is_full = self.kept.len() == MAX_KEPT_EVENTS;
        if is_full && after + 1 < oldest {
            let message = format!("events {} to {} are no longer kept", after + 1, oldest - 1);
            return Err(ApiError::new(ErrorCode::EVENTS_MISSED, message).with_hint(
                "list the executions for their current state, and follow events from now on",
            ));
        }
        let skipped = self.kept.partition_point(|event| event.sequence <= after);
        let (mut events, mut seen) = (Vec::new(), after);
        for event in self.kept.iter().skip(skipped) {
            if events.len() == limit {
                break;
            }
            seen = event.sequence;
            if scope.includes(&event.user) {
                events.push(event.clone());
            }
        }
        Ok(EventPage { events, seen })
    }

    /// Returns the sequence number of the last event of an earlier escherd.
    pub fn inherited(&self) -> u64 {
        self.inherited
    }

    /// Returns a watch that changes with every published event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last_published.subscribe()
    }
}
