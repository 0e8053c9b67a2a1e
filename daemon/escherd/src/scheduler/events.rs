//! The log of recent events.
//!
//! It keeps a number of events, shared among users: when there are too many, the user with most loses the oldest. So
//! a flood of one user's executions removes events of that user alone, and the others can still resume after theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use escher_protocol::message::{Event, EventFilter, EventKind, EventsStart};
use escher_protocol::{ApiError, ErrorCode, Timestamp};
use tokio::sync::watch;

use crate::authz::Scope;
use crate::execution::Submission;
use crate::store::DroppedEvent;

/// Events that are kept for late and slow readers.
const MAX_KEPT_EVENTS: usize = 10_000;

/// The fewest events that the store is told to delete at once. Deleting some together costs it little more than
/// deleting one.
const MIN_DROPPED_AT_ONCE: usize = 256;

/// The kept events, at most [`MAX_KEPT_EVENTS`]. An event gets its sequence number when it happens, and is published
/// once it is committed: a number that a client has seen means the same event for ever.
#[derive(Debug)]
pub struct EventLog {
    max_kept: usize,
    /// By sequence number.
    kept: BTreeMap<u64, Event>,
    /// The sequence numbers of each user's kept events, in order.
    of_users: HashMap<u32, VecDeque<u64>>,
    /// How many events each user has, with its uid.
    counts: BTreeSet<(usize, u32)>,
    /// The last event of each user that is no longer kept.
    missed: HashMap<u32, u64>,
    /// The last of these.
    last_missed: u64,
    /// Events that the store still has.
    dropped: Vec<DroppedEvent>,
    /// The sequence number of the last event of an earlier escherd.
    last_earlier: u64,
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
    /// Creates a log that continues after the events of an earlier escherd. `missed` are the last event of each user
    /// that is no longer among them.
    #[must_use]
    pub fn new(events: Vec<Event>, missed: HashMap<u32, u64>) -> Self {
        EventLog::with_max_kept(MAX_KEPT_EVENTS, events, missed)
    }

    fn with_max_kept(max_kept: usize, events: Vec<Event>, missed: HashMap<u32, u64>) -> Self {
        let last_missed = missed.values().max().copied().unwrap_or(0);
        let last = events.last().map_or(0, |event| event.sequence);
        let last = last.max(last_missed);
        let mut log = EventLog {
            max_kept,
            kept: BTreeMap::new(),
            of_users: HashMap::new(),
            counts: BTreeSet::new(),
            missed,
            last_missed,
            dropped: Vec::new(),
            last_earlier: last,
            last_assigned: last,
            last_published: watch::Sender::new(last),
        };
        for event in events {
            log.keep(event);
        }
        log
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
        let sequence = event.sequence;
        self.keep(event);
        self.last_published.send_replace(sequence);
    }

    /// Keeps an event, and drops the oldest of the user with most if there are too many.
    fn keep(&mut self, event: Event) {
        let (uid, sequence) = (event.user.uid, event.sequence);
        self.kept.insert(sequence, event);
        self.change_events_of(uid, |sequences| {
            sequences.push_back(sequence);
            None
        });
        if self.kept.len() > self.max_kept
            && let Some((_, uid)) = self.counts.last().copied()
            && let Some(sequence) = self.change_events_of(uid, VecDeque::pop_front)
        {
            self.kept.remove(&sequence);
            self.missed.insert(uid, sequence);
            self.last_missed = self.last_missed.max(sequence);
            self.dropped.push(DroppedEvent { uid, sequence });
        }
    }

    fn change_events_of(
        &mut self,
        uid: u32,
        change: impl FnOnce(&mut VecDeque<u64>) -> Option<u64>,
    ) -> Option<u64> {
        let sequences = self.of_users.entry(uid).or_default();
        self.counts.remove(&(sequences.len(), uid));
        let result = change(sequences);
        if sequences.is_empty() {
            self.of_users.remove(&uid);
        } else {
            self.counts.insert((sequences.len(), uid));
        }
        result
    }

    /// Returns events that the store has to delete, once there are enough of them.
    pub fn take_dropped(&mut self) -> Vec<DroppedEvent> {
        if self.dropped.len() < MIN_DROPPED_AT_ONCE {
            return Vec::new();
        }
        std::mem::take(&mut self.dropped)
    }

    /// Returns the sequence number after which the events in `scope` lie that are requested. Nothing that is kept is
    /// missing between it and the first of them.
    pub fn position(&self, scope: &Scope, start: EventsStart, filter: &EventFilter) -> u64 {
        let last = *self.last_published.borrow();
        let oldest = self.missed(scope).min(last);
        let mut visible = self.kept.range(oldest + 1..).map(|(_, event)| event);
        let is_wanted = |event: &&Event| scope.includes(&event.user) && matches(event, filter);
        match start {
            EventsStart::Oldest => oldest,
            EventsStart::After(sequence) => sequence.min(last),
            EventsStart::Last(0) => last,
            EventsStart::Last(count) => {
                let mut newest_first = visible.rev().filter(is_wanted);
                let skipped = usize::try_from(count - 1).unwrap_or(usize::MAX);
                newest_first
                    .nth(skipped)
                    .map_or(oldest, |event| event.sequence - 1)
            }
            EventsStart::Since(time) => visible
                .find(|event| event.time >= time)
                .map_or(last, |event| event.sequence - 1),
        }
    }

    /// Returns the sequence number of the last event in `scope` that is no longer kept.
    fn missed(&self, scope: &Scope) -> u64 {
        match scope.submitter() {
            Some(user) => self.missed.get(&user.uid).copied().unwrap_or(0),
            None => self.last_missed,
        }
    }

    /// Returns at most `limit` events in `scope` after the sequence number `after` that match.
    ///
    /// # Errors
    /// `events-missed` if events in `scope` after `after` are no longer kept.
    pub fn page(
        &self,
        scope: &Scope,
        after: u64,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, ApiError> {
        let missed = self.missed(scope);
        if after < missed {
            let first = after + 1;
            let message = format!("some of the events {first} to {missed} are no longer kept");
            return Err(ApiError::new(ErrorCode::EVENTS_MISSED, message).with_hint(
                "list the executions for their current state, and follow events from now on",
            ));
        }
        let after = after.min(*self.last_published.borrow());
        let (mut events, mut seen) = (Vec::new(), after);
        for event in self.kept.range(after + 1..).map(|(_, event)| event) {
            if events.len() == limit {
                break;
            }
            seen = event.sequence;
            if scope.includes(&event.user) && matches(event, filter) {
                events.push(event.clone());
            }
        }
        Ok(EventPage { events, seen })
    }

    /// Returns the sequence number of the last event of an earlier escherd.
    pub fn last_earlier(&self) -> u64 {
        self.last_earlier
    }

    /// Returns a watch that changes with every published event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last_published.subscribe()
    }
}

fn matches(event: &Event, filter: &EventFilter) -> bool {
    let of_status = match &event.kind {
        _ if filter.statuses.is_empty() => true,
        EventKind::Finished(status) => filter.statuses.contains(status),
        _ => false,
    };
    of_status && (filter.name.is_none() || event.name == filter.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    use escher_protocol::{ExecutionId, Status};
    use proptest::prelude::*;

    const MAX_KEPT: usize = 12;

    fn event(sequence: u64, uid: u32) -> Event {
        Event {
            sequence,
            time: Timestamp::from_micros(1),
            id: ExecutionId::from_bytes([1; 16]),
            number: 1,
            name: None,
            user: escher_protocol::User { uid, name: None },
            kind: EventKind::Submitted,
        }
    }

    fn log(events: Vec<Event>, missed: HashMap<u32, u64>) -> EventLog {
        EventLog::with_max_kept(MAX_KEPT, events, missed)
    }

    /// Returns the sequence numbers of all events in `scope` after `after`, in pages of two; `None` if some are missed.
    fn read(log: &EventLog, scope: &Scope, after: Option<u64>) -> Option<Vec<u64>> {
        let start = after.map_or(EventsStart::Oldest, EventsStart::After);
        read_from(log, scope, start, &EventFilter::default())
    }

    fn read_from(
        log: &EventLog,
        scope: &Scope,
        start: EventsStart,
        filter: &EventFilter,
    ) -> Option<Vec<u64>> {
        let (mut sequences, mut after) = (Vec::new(), log.position(scope, start, filter));
        loop {
            let page = match log.page(scope, after, filter, 2) {
                Ok(page) => page,
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::EVENTS_MISSED);
                    return None;
                }
            };
            sequences.extend(page.events.iter().map(|event| event.sequence));
            if after == page.seen {
                return Some(sequences);
            }
            after = page.seen;
        }
    }

    #[test]
    fn a_flood_of_one_user_removes_no_event_of_another() {
        let mut log = log(Vec::new(), HashMap::new());
        for sequence in 1..=2 {
            log.publish(event(sequence, 7));
        }
        for sequence in 3..=100 {
            log.publish(event(sequence, 8));
        }
        let (quiet, flooder) = (Scope::for_uid(7), Scope::for_uid(8));
        assert_eq!(read(&log, &quiet, Some(0)), Some(vec![1, 2]));
        assert_eq!(read(&log, &quiet, Some(1)), Some(vec![2]));
        let kept: Vec<u64> = (91..=100).collect();
        assert_eq!(read(&log, &flooder, None), Some(kept.clone()));
        assert_eq!(read(&log, &flooder, Some(90)), Some(kept.clone()));
        assert_eq!(read(&log, &flooder, Some(89)), None);
        let root = Scope::for_root();
        assert_eq!(read(&log, &root, Some(90)), Some(kept));
        assert_eq!(read(&log, &root, Some(2)), None);
        assert_eq!(read(&log, &root, None), Some((91..=100).collect()));
        assert_eq!(read(&log, &root, Some(u64::MAX)), Some(vec![]));
    }

    #[test]
    fn a_number_that_was_never_published_is_not_missed() {
        let mut log = log(Vec::new(), HashMap::new());
        log.publish(event(3, 7));
        assert_eq!(read(&log, &Scope::for_uid(7), Some(0)), Some(vec![3]));
    }

    #[test]
    fn events_start_at_the_last_ones_that_match_or_at_a_time() {
        let mut log = log(Vec::new(), HashMap::new());
        let failed = |sequence, uid| Event {
            kind: EventKind::Finished(Status::Failed),
            name: Some("nightly".into()),
            ..event(sequence, uid)
        };
        for event in [
            event(1, 7),
            failed(2, 7),
            failed(3, 8),
            event(4, 7),
            event(5, 8),
            failed(6, 7),
        ] {
            let time = Timestamp::from_micros(10 * i64::try_from(event.sequence).unwrap());
            log.publish(Event { time, ..event });
        }
        let scope = Scope::for_uid(7);
        let all = EventFilter::default();
        let failures = EventFilter {
            statuses: vec![Status::Failed],
            ..EventFilter::default()
        };
        let of_name = |name: &str| EventFilter {
            name: Some(name.into()),
            ..EventFilter::default()
        };
        let since = |micros| EventsStart::Since(Timestamp::from_micros(micros));
        for (start, filter, expected) in [
            (EventsStart::Last(0), &all, vec![]),
            (EventsStart::Last(2), &all, vec![4, 6]),
            (EventsStart::Last(u64::MAX), &all, vec![1, 2, 4, 6]),
            (EventsStart::Last(2), &failures, vec![2, 6]),
            (EventsStart::Oldest, &of_name("nightly"), vec![2, 6]),
            (EventsStart::Oldest, &of_name("other"), vec![]),
            (since(40), &all, vec![4, 6]),
            (since(41), &all, vec![6]),
            (since(61), &all, vec![]),
        ] {
            assert_eq!(read_from(&log, &scope, start, filter), Some(expected));
        }
    }

    #[test]
    fn the_store_is_told_in_portions() {
        let mut log = EventLog::with_max_kept(1, vec![event(1, 7)], HashMap::new());
        for sequence in 2..=256 {
            log.publish(event(sequence, 7));
            assert_eq!(log.take_dropped(), []);
        }
        log.publish(event(257, 7));
        let dropped: Vec<DroppedEvent> = (1..=256)
            .map(|sequence| DroppedEvent { uid: 7, sequence })
            .collect();
        assert_eq!(log.take_dropped(), dropped);
        assert_eq!(log.take_dropped(), []);
    }

    proptest! {
        /// Whatever was published, and whether or not escherd was restarted since.
        #[test]
        fn readers_miss_nothing_without_being_told_and_nobody_within_its_share_misses_anything(
            uids in proptest::collection::vec(0..5u32, 0..60), restart in any::<bool>()
        ) {
            let events: Vec<Event> = (1..).zip(&uids).map(|(n, uid)| event(n, *uid)).collect();
            let mut log = log(Vec::new(), HashMap::new());
            for event in events.clone() {
                log.publish(event);
            }
            if restart {
                // The store deletes later than this forgets.
                log = self::log(log.kept.into_values().collect(), log.missed);
            }
            prop_assert!(log.kept.len() <= MAX_KEPT);
            let users = uids.iter().collect::<BTreeSet<_>>().len();
            for uid in 0..5 {
                let of_user = || events.iter().filter(|event| event.user.uid == uid);
                let count = of_user().count();
                for after in 0..=uids.len() as u64 {
                    let found = read(&log, &Scope::for_uid(uid), Some(after));
                    let is_within_share = count * users <= MAX_KEPT;
                    prop_assert!(found.is_some() || !is_within_share);
                    let expected = of_user().map(|event| event.sequence).filter(|n| *n > after);
                    prop_assert!(found.is_none_or(|found| found == expected.collect::<Vec<_>>()));
                }
            }
        }
    }
}
