//! A check that admissions are fair, for tests: it sees who waits and who is admitted, and not how that is decided.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::limits::{ROOT, SlotLimits};

/// What was seen of all users.
#[derive(Debug)]
pub(crate) struct FairnessCheck {
    slots: SlotLimits,
    users: BTreeMap<u32, Seen>,
}

/// What was seen of one user.
#[derive(Debug, Default)]
struct Seen {
    /// Executions that wait for a slot.
    eligible: BTreeSet<u64>,
    slots: usize,
    /// How often each other user was admitted while this one waits and has no slot.
    admitted: HashMap<u32, usize>,
    /// How often each other user was admitted with a slot already while this one waits.
    admitted_with_slot: HashMap<u32, usize>,
}

impl FairnessCheck {
    pub(crate) fn new(slots: SlotLimits) -> Self {
        FairnessCheck {
            slots,
            users: BTreeMap::new(),
        }
    }

    /// Notes what a user has at the beginning.
    pub(crate) fn on_resumed(
        &mut self,
        uid: u32,
        eligible: impl IntoIterator<Item = u64>,
        slots: usize,
    ) {
        let user = self.users.entry(uid).or_default();
        user.eligible.extend(eligible);
        user.slots = slots;
    }

    /// Notes other limits, under which everybody begins to wait anew.
    pub(crate) fn on_limits(&mut self, slots: SlotLimits) {
        self.slots = slots;
        for user in self.users.values_mut() {
            user.admitted.clear();
            user.admitted_with_slot.clear();
        }
    }

    /// Notes that an execution may be admitted from now on.
    pub(crate) fn on_eligible(&mut self, uid: u32, number: u64) {
        self.users.entry(uid).or_default().eligible.insert(number);
    }

    /// Notes that an execution no longer waits.
    pub(crate) fn on_withdrawn(&mut self, uid: u32, number: u64) {
        let user = self.users.entry(uid).or_default();
        user.eligible.remove(&number);
        if user.eligible.is_empty() {
            user.admitted.clear();
            user.admitted_with_slot.clear();
        }
    }

    /// Notes that an execution is over, whether it waited or had a slot.
    pub(crate) fn on_over(&mut self, uid: u32, number: u64) {
        if self
            .users
            .entry(uid)
            .or_default()
            .eligible
            .contains(&number)
        {
            self.on_withdrawn(uid, number);
        } else {
            self.on_free_slot(uid);
        }
    }

    /// Notes that a slot of a user is free again.
    pub(crate) fn on_free_slot(&mut self, uid: u32) {
        self.users.entry(uid).or_default().slots -= 1;
    }

    /// Notes the admission of an execution, and checks that none of its user and no other user was before it.
    pub(crate) fn on_admitted(&mut self, number: u64) {
        let is_oldest = |seen: &Seen| seen.eligible.first() == Some(&number);
        let found = self.users.iter().find(|(_, seen)| is_oldest(seen));
        let uid = *found.expect("the oldest execution of a user is admitted").0;
        self.on_slot_taken(uid);
        self.users.entry(uid).or_default().eligible.remove(&number);
    }

    /// Notes that a user was given a slot, and checks that no other was before it.
    pub(crate) fn on_slot_taken(&mut self, uid: u32) {
        let is_in_own_slot = self.slots_of(uid) < self.own_slots(uid);
        let has_slot = self.has_ordinary_slot(uid);
        let waiting = self.waiting();
        for other in waiting.into_iter().filter(|other| *other != uid) {
            if is_in_own_slot {
                // Takes nothing from anybody.
                break;
            }
            let is_newcomer = !self.has_ordinary_slot(other);
            let seen = self.users.entry(other).or_default();
            if is_newcomer {
                let count = seen.admitted.entry(uid).or_default();
                *count += 1;
                assert!(*count <= 1, "{uid} twice before {other}, who has no slot");
            }
            if has_slot {
                assert!(!is_newcomer, "{uid} before {other}, who has no slot");
                let count = seen.admitted_with_slot.entry(uid).or_default();
                *count += 1;
                assert!(*count <= 1, "{uid} twice before {other}");
            }
        }
        let seen = self.users.entry(uid).or_default();
        seen.slots += 1;
        seen.admitted.clear();
        seen.admitted_with_slot.clear();
        assert!(
            seen.slots <= self.slots.ordinary,
            "{uid} has too many slots"
        );
        let has_room = self.used_ordinary_slots() <= self.slots.ordinary;
        assert!(is_in_own_slot || has_room, "more slots than there are");
    }

    /// Checks that no slot is free that a waiting user may have.
    pub(crate) fn check_no_slot_is_wasted(&self) {
        let free = self
            .slots
            .ordinary
            .saturating_sub(self.used_ordinary_slots());
        let waiting = self.waiting();
        match waiting.len() {
            0 => {}
            1 => assert_eq!(free, 0, "a user who waits alone may have all slots"),
            _ => assert!(free <= self.slots.ordinary / 10, "{free} slots are free"),
        }
        for uid in waiting {
            assert!(
                self.has_ordinary_slot(uid) || free == 0,
                "{uid} has no slot"
            );
            let has_own = self.slots_of(uid) >= self.own_slots(uid);
            assert!(has_own, "slots of {uid} alone are free");
        }
    }

    pub(crate) fn slots_of(&self, uid: u32) -> usize {
        self.users.get(&uid).map_or(0, |seen| seen.slots)
    }

    /// Returns the users who wait for a slot that they may have.
    fn waiting(&self) -> Vec<u32> {
        let most = self.slots.ordinary;
        let waits = |seen: &Seen| !seen.eligible.is_empty() && seen.slots < most;
        let waiting = self.users.iter().filter(|(_, seen)| waits(seen));
        waiting.map(|(uid, _)| *uid).collect()
    }

    fn own_slots(&self, uid: u32) -> usize {
        if uid == ROOT { self.slots.root } else { 0 }
    }

    fn has_ordinary_slot(&self, uid: u32) -> bool {
        self.slots_of(uid) > self.own_slots(uid)
    }

    fn used_ordinary_slots(&self) -> usize {
        let used = |(uid, seen): (&u32, &Seen)| seen.slots.saturating_sub(self.own_slots(*uid));
        self.users.iter().map(used).sum()
    }
}
