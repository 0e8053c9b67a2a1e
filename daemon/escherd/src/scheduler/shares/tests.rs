//! Shares by themselves: any sequence of events is fair, and the queue has room for everybody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::fairness::FairnessCheck;
use super::*;
use crate::config::Percent;

/// The users of the property test.
const USERS: std::ops::Range<u32> = 0..5;

fn user(uid: u32) -> User {
    User { uid, name: None }
}

fn limits(ordinary: usize, root: usize, pending: usize) -> Limits {
    let slots = SlotLimits { ordinary, root };
    Limits::new(slots, pending, 1000, Percent::new(50))
}

/// Something that happens to the executions of a user.
#[derive(Debug, Clone)]
enum Event {
    Submit(u32),
    /// The store commits a submission.
    Commit(u32),
    /// The store refuses one.
    Refuse(u32),
    Cancel(u32),
    Finish(u32),
    Reload {
        slots: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let uid = || USERS;
    prop_oneof![
        6 => uid().prop_map(Event::Submit),
        6 => uid().prop_map(Event::Commit),
        1 => uid().prop_map(Event::Refuse),
        1 => uid().prop_map(Event::Cancel),
        4 => uid().prop_map(Event::Finish),
        1 => (1..30_usize).prop_map(|slots| Event::Reload { slots }),
    ]
}

/// Shares, and what each user has submitted.
struct World {
    shares: Shares,
    slots: SlotLimits,
    fairness: FairnessCheck,
    /// Pending executions of each user that are not committed.
    uncommitted: BTreeMap<u32, VecDeque<u64>>,
    /// Eligible executions of each user.
    eligible: BTreeMap<u32, BTreeSet<u64>>,
    last_number: u64,
}

impl World {
    fn new(slots: SlotLimits) -> Self {
        World {
            shares: Shares::new(limits(slots.ordinary, slots.root, 1000)),
            slots,
            fairness: FairnessCheck::new(slots),
            uncommitted: BTreeMap::new(),
            eligible: BTreeMap::new(),
            last_number: 0,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Submit(uid) => self.submit(uid),
            Event::Commit(uid) => {
                if let Some(number) = self.uncommitted.entry(uid).or_default().pop_front() {
                    self.fairness.on_eligible(uid, number);
                    self.eligible.entry(uid).or_default().insert(number);
                    self.shares.make_eligible(uid, number, 1);
                }
            }
            Event::Refuse(uid) => {
                if self
                    .uncommitted
                    .entry(uid)
                    .or_default()
                    .pop_back()
                    .is_some()
                {
                    self.shares.discard_pending(uid, 1);
                }
            }
            Event::Cancel(uid) => {
                if let Some(number) = self.eligible.entry(uid).or_default().pop_last() {
                    self.fairness.on_withdrawn(uid, number);
                    self.shares.withdraw(uid, number);
                }
            }
            Event::Finish(uid) => {
                if self.fairness.slots_of(uid) > 0 {
                    self.fairness.on_free_slot(uid);
                    self.shares.free_slot(uid);
                }
            }
            Event::Reload { slots } => {
                self.slots.ordinary = slots;
                self.fairness.on_limits(self.slots);
                let limits = limits(slots, self.slots.root, 1000);
                self.shares.set_limits(limits);
            }
        }
        while let Some(number) = self.shares.admit_next() {
            self.fairness.on_admitted(number);
            for eligible in self.eligible.values_mut() {
                eligible.remove(&number);
            }
        }
        self.fairness.check_no_slot_is_wasted();
        self.check_counts();
    }

    fn submit(&mut self, uid: u32) {
        if self.shares.is_admitted_at_once(uid) {
            self.fairness.on_slot_taken(uid);
            self.shares.take_slot(&user(uid));
        } else {
            self.last_number += 1;
            self.shares.add_pending(&user(uid), 1);
            let uncommitted = self.uncommitted.entry(uid).or_default();
            uncommitted.push_back(self.last_number);
        }
    }

    fn check_counts(&self) {
        let (mut pending, mut used, mut active) = (0, 0, 0);
        for uid in USERS {
            let uncommitted = self.uncommitted.get(&uid).map_or(0, VecDeque::len);
            let of_user = uncommitted + self.eligible.get(&uid).map_or(0, BTreeSet::len);
            let slots = self.fairness.slots_of(uid);
            let quota = self.shares.quota(user(uid));
            assert_eq!(
                (quota.pending, quota.running),
                (of_user as u64, slots as u64)
            );
            assert_eq!(quota.pending_bytes, quota.pending);
            pending += of_user;
            used += slots;
            active += usize::from(of_user + slots > 0);
        }
        assert_eq!(self.shares.pending(), pending);
        assert_eq!(self.shares.used_slots(), used);
        assert_eq!(
            self.shares.users().len(),
            active,
            "nobody is remembered for nothing"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn slots_are_shared_fairly_and_none_is_wasted(
        ordinary in 1..30_usize,
        root in 0..4_usize,
        events in prop::collection::vec(event(), 0..300),
    ) {
        let root = root.min(ordinary);
        let mut world = World::new(SlotLimits { ordinary, root });
        for event in events {
            world.happen(&event);
        }
    }
}

/// Has a user submit an execution, which is pending at once.
fn queue(shares: &mut Shares, uid: u32, number: u64) {
    shares.add_pending(&user(uid), 1);
    shares.make_eligible(uid, number, 1);
}

/// Fills the queue for a user until it is refused, and returns how many were accepted and why no more.
fn fill(shares: &mut Shares, uid: u32, bytes: u64) -> (u64, QueueRefusal) {
    let mut accepted = 0;
    loop {
        match shares.ensure_queueable(uid, bytes) {
            Ok(()) => shares.add_pending(&user(uid), bytes),
            Err(refusal) => return (accepted, refusal),
        }
        accepted += 1;
    }
}

#[test]
fn users_take_turns_while_a_tenth_stays_free_for_those_who_have_nothing() {
    let mut shares = Shares::new(limits(20, 2, 1000));
    for number in 1..=100 {
        queue(&mut shares, 1 + u32::try_from(number % 2).unwrap(), number);
    }
    let admitted: Vec<u64> = std::iter::from_fn(|| shares.admit_next()).collect();
    assert_eq!(admitted, (1..=18).collect::<Vec<_>>());
    queue(&mut shares, 3, 101);
    queue(&mut shares, 3, 102);
    assert_eq!(shares.admit_next(), Some(101));
    assert_eq!(
        shares.admit_next(),
        None,
        "19 of 20 are taken, the last is not for 3"
    );
    assert!(shares.is_admitted_at_once(4));
}

#[test]
fn a_user_alone_has_all_slots_and_root_has_more() {
    let mut shares = Shares::new(limits(20, 2, 1000));
    for number in 1..=30 {
        queue(&mut shares, 1, number);
    }
    assert_eq!(std::iter::from_fn(|| shares.admit_next()).count(), 20);
    for number in 31..=40 {
        queue(&mut shares, ROOT, number);
    }
    let admitted: Vec<u64> = std::iter::from_fn(|| shares.admit_next()).collect();
    assert_eq!(admitted, [31, 32]);
    // Root's own slots take none from the others.
    shares.free_slot(1);
    assert_eq!(
        shares.admit_next(),
        Some(33),
        "root has no ordinary slot yet"
    );
    shares.free_slot(1);
    assert_eq!(shares.admit_next(), None, "two wait, and have slots");
}

#[test]
fn root_alone_has_no_more_slots_than_others() {
    let mut shares = Shares::new(limits(1, 1, 1000));
    queue(&mut shares, ROOT, 1);
    queue(&mut shares, ROOT, 2);
    queue(&mut shares, 1, 3);
    let admitted: Vec<u64> = std::iter::from_fn(|| shares.admit_next()).collect();
    assert_eq!(admitted, [1, 3]);
    shares.free_slot(1);
    assert_eq!(
        shares.admit_next(),
        None,
        "commands of root are serial, too"
    );
    shares.free_slot(ROOT);
    assert_eq!(shares.admit_next(), Some(2));
}

#[test]
fn no_user_alone_fills_the_queue_and_root_always_gets_in() {
    let mut shares = Shares::new(limits(1, 1, 100));
    let over_quota = |used, limit| QueueRefusal::OverQuota {
        measure: limits::Measure::Executions,
        used,
        more: 1,
        limit,
    };
    let full = |used, limit| QueueRefusal::QueueFull {
        measure: limits::Measure::Executions,
        used,
        more: 1,
        limit,
    };
    assert_eq!(fill(&mut shares, 1, 1), (50, over_quota(50, 50)));
    assert_eq!(fill(&mut shares, 2, 1), (40, full(90, 90)));
    for uid in 3..=12 {
        assert_eq!(
            fill(&mut shares, uid, 1).0,
            1,
            "one for each who has nothing"
        );
    }
    assert_eq!(fill(&mut shares, 13, 1), (0, full(100, 100)));
    assert_eq!(fill(&mut shares, ROOT, 1), (10, full(100, 90)));
    shares.discard_pending(1, 1);
    assert_eq!(
        fill(&mut shares, 13, 1),
        (1, full(100, 90)),
        "root's own places do not count"
    );
}

#[test]
fn bytes_are_shared_like_places() {
    let mut shares = Shares::new(limits(1, 1, 100));
    let (accepted, refusal) = fill(&mut shares, 1, 300);
    assert_eq!(accepted, 1);
    assert_eq!(
        refusal.to_string(),
        "this user has 300 bytes of requests pending, and may have at most 500 (users.queue_share); \
         this request has 300 bytes"
    );
    assert_eq!(fill(&mut shares, 2, 300).0, 1);
    let (accepted, refusal) = fill(&mut shares, 3, 450);
    assert_eq!(accepted, 0);
    assert_eq!(
        refusal.to_string(),
        "the queue is full: 600 of at most 1000 bytes of requests are pending (max_pending_bytes); \
         this request has 450 bytes"
    );
    assert_eq!(
        fill(&mut shares, ROOT, 50).0,
        8,
        "100 of its own, and up to 900 with the others"
    );
}

#[test]
fn one_user_without_others_has_the_whole_queue() {
    let slots = SlotLimits {
        ordinary: 1,
        root: 0,
    };
    let mut shares = Shares::new(Limits::new(slots, 100, 1000, None));
    let (accepted, refusal) = fill(&mut shares, ROOT, 1);
    assert_eq!(accepted, 100);
    assert!(
        matches!(refusal, QueueRefusal::QueueFull { .. }),
        "{refusal:?}"
    );
}

#[test]
fn the_smallest_queues_have_a_place_for_each_of_as_many_users() {
    for places in 0..=10_u32 {
        let mut shares = Shares::new(limits(1, 1, places as usize));
        for uid in 1..=places {
            assert_eq!(shares.ensure_queueable(uid, 1), Ok(()), "{uid} of {places}");
            shares.add_pending(&user(uid), 1);
        }
        assert!(shares.ensure_queueable(places + 1, 1).is_err());
    }
}

/// Of a user's own all that were submitted before, of others as many as have their turn before.
#[test]
fn a_position_counts_what_is_admitted_before() {
    let mut shares = Shares::new(limits(1, 1, 100));
    shares.take_slot(&user(1));
    for (uid, number) in [(2, 1), (2, 2), (2, 3), (3, 4), (3, 5), (1, 6)] {
        shares.add_pending(&user(uid), 0);
        shares.make_eligible(uid, number, 0);
    }
    let ahead = |shares: &Shares, uid, number| {
        let position = shares.position(uid, number).unwrap();
        assert_eq!((position.running, position.max_running), (1, 1));
        position.ahead
    };
    // The turns: 2, 3, 1, 2, 3, 2. User 1 has the slot, and waits for a turn once that is free.
    assert_eq!([1, 2, 3].map(|number| ahead(&shares, 2, number)), [0, 3, 5]);
    assert_eq!([4, 5].map(|number| ahead(&shares, 3, number)), [1, 4]);
    assert_eq!(ahead(&shares, 1, 6), 2);
    assert!(shares.position(4, 1).is_none());
}

/// Root's own slot is beyond those for everybody.
#[test]
fn a_position_of_root_counts_its_own_slots() {
    let mut shares = Shares::new(limits(1, 1, 100));
    shares.take_slot(&user(0));
    let position = shares.position(0, 1).unwrap();
    assert_eq!((position.running, position.max_running), (1, 1));
    shares.take_slot(&user(7));
    let position = shares.position(7, 1).unwrap();
    assert_eq!((position.running, position.max_running), (1, 1));
}
