//! What has happened lately.

use std::collections::VecDeque;

use escher_protocol::message::{Event, EventKind};
use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::watch;

use crate::authz::Scope;
use crate::execution::Submission;

/// Events that are kept for those who ask later or read slowly.
pub const MAX_KEPT_EVENTS: usize = 10_000;

/// The last [`MAX_KEPT_EVENTS`] events. An event gets its number when it happens, and is told once it is
/// on disk: a number that somebody has seen means the same event for ever.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<Event>,
    /// The number of the last event of an earlier escherd.
    inherited: u64,
    /// The number given last.
    given: u64,
    /// The number told last.
    told: watch::Sender<u64>,
}

/// Some events, and where to go on.
#[derive(Debug)]
pub struct Page {
    /// In order.
    pub events: Vec<Event>,
    /// The sequence number up to which everything was looked at.
    pub seen: u64,
}

impl EventLog {
    /// A log that goes on from the events of an earlier escherd.
    #[must_use]
    pub fn new(kept: Vec<Event>) -> Self {
        let last = kept.last().map_or(0, |event| event.sequence);
        EventLog {
            kept: kept.into(),
            inherited: last,
            given: last,
            told: watch::Sender::new(last),
        }
    }

    /// The event that `kind` has happened to the execution of `submission`. Not told yet.
    pub fn happened(&mut self, submission: &Submission, time: Timestamp, kind: EventKind) -> Event {
        self.given += 1;
        Event {
            sequence: self.given,
            time,
            id: submission.id,
            number: submission.number,
            name: submission.request.name.clone(),
            user: submission.submitter.clone(),
            kind,
        }
    }

    /// Tells of an event. One that belongs to what was refused is never told: its number stays out.
    pub fn tell(&mut self, event: Event) {
        if self.kept.len() == MAX_KEPT_EVENTS {
            self.kept.pop_front();
        }
        let sequence = event.sequence;
        self.kept.push_back(event);
        self.told.send_replace(sequence);
    }

    /// At most `room` events in `scope` after the sequence number `after`, or from the first on.
    ///
    /// # Errors
    /// `events-missed` when there were some after `after` that are no longer kept.
    pub fn page(&self, scope: &Scope, after: Option<u64>, room: usize) -> Result<Page, ApiError> {
        let last = *self.told.borrow();
        let oldest = self.kept.front().map_or(last + 1, |event| event.sequence);
        let after = after.unwrap_or(oldest - 1).min(last);
        // Before the first log was full, nothing was dropped, and what is missing never happened.
        let is_full = self.kept.len() == MAX_KEPT_EVENTS;
        if is_full && after + 1 < oldest {
            let message = format!("events {} to {} are no longer kept", after + 1, oldest - 1);
            return Err(ApiError::new(ErrorCode::EVENTS_MISSED, message).with_hint(
                "look at the executions themselves, and go on with the events from here",
            ));
        }
        let skipped = self.kept.partition_point(|event| event.sequence <= after);
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

    /// The number of the last event of an earlier escherd: what comes after it has happened in this one.
    pub fn inherited(&self) -> u64 {
        self.inherited
    }

    /// Changes with every event that is told.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }
}
