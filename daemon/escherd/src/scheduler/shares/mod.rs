//! How users share the slots and the queue.
//!
//! [`Shares`] has the pending executions of each user, and counts what each of them takes. It decides who is next when
//! a slot is free, and whether there is room in the queue; the rest of the scheduler does not know how. An execution is
//! charged to the user who has submitted it. Every event costs O(log n).
//!
//! **Slots.** A user's executions are admitted in the order of submission. Among the users who wait:
//!
//! - a user who has no slot comes before those who have one, so every user has a slot before anybody gets another;
//! - otherwise they take turns ([`admission_order`]);
//! - while several users wait, the last tenth of the slots is for users who have none. A user who waits alone may have
//!   all slots;
//! - root has a tenth, at least one, beyond them. It takes nothing from the others. Not even root has more slots than
//!   there are for everybody.
//!
//! So while a user who has no slot waits, every other user, root in its own slots aside, is admitted at most once. While
//! a user who has slots waits, every other is admitted at most once as one who has slots itself.
//!
//! **Queue.** A user may take its share of it; the last tenth is for users who have nothing pending; and root has a tenth
//! beyond. So no user alone keeps another out, and nobody keeps root out.

mod admission_order;
#[cfg(test)]
pub(super) mod fairness;
mod limits;
#[cfg(test)]
mod tests;

pub(crate) use limits::{Limits, QueueRefusal, SlotLimits};

use std::collections::{BTreeMap, HashMap};

use escher_protocol::message::{HistoryQuota, Quota};
use escher_protocol::{QueuePosition, Text, User};

use admission_order::{AdmissionOrder, AdmissionTurn};
use limits::{QueueUse, ROOT};

/// The executions that wait for a slot, and what each user takes: see the [module](self).
#[derive(Debug)]
pub(crate) struct Shares {
    limits: Limits,
    /// The users who have something pending, or a slot.
    users: HashMap<u32, UserShare>,
    order: AdmissionOrder,
    pending: usize,
    pending_bytes: u64,
    used_slots: usize,
}

/// What one user takes.
#[derive(Debug, Default)]
struct UserShare {
    name: Option<Text>,
    /// Pending executions that may be admitted, with the bytes of their requests.
    eligible: BTreeMap<u64, u64>,
    /// How many pending executions may not be admitted yet, because their submission is not committed.
    uncommitted: usize,
    /// Bytes of the requests of both.
    pending_bytes: u64,
    slots: usize,
    /// The user's place among those who wait for a slot; `None` if it does not.
    turn: Option<AdmissionTurn>,
}

impl UserShare {
    fn pending(&self) -> usize {
        self.eligible.len() + self.uncommitted
    }
}

impl Shares {
    /// Creates the shares of users who take nothing yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Shares {
            limits,
            users: HashMap::new(),
            order: AdmissionOrder::default(),
            pending: 0,
            pending_bytes: 0,
            used_slots: 0,
        }
    }

    /// Applies other limits. What was accepted stays.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let uids: Vec<u32> = self.users.keys().copied().collect();
        for uid in uids {
            self.update(uid);
        }
    }

    /// Checks that there is room in the queue for a request of `bytes` bytes.
    pub(crate) fn ensure_queueable(&self, uid: u32, bytes: u64) -> Result<(), QueueRefusal> {
        let (own, root) = (self.users.get(&uid), self.users.get(&ROOT));
        let count = |user: Option<&UserShare>| user.map_or(0, |user| user.pending() as u64);
        let pending = QueueUse {
            own: count(own),
            root: count(root),
            total: self.pending as u64,
        };
        self.limits.pending.check(uid, pending, 1)?;
        let bytes_of = |user: Option<&UserShare>| user.map_or(0, |user| user.pending_bytes);
        let pending_bytes = QueueUse {
            own: bytes_of(own),
            root: bytes_of(root),
            total: self.pending_bytes,
        };
        self.limits.pending_bytes.check(uid, pending_bytes, bytes)
    }

    /// Returns whether a new execution of this user may have a slot at once, because nothing is before it.
    pub(crate) fn is_admitted_at_once(&self, uid: u32) -> bool {
        let (pending, slots) = self
            .users
            .get(&uid)
            .map_or((0, 0), |user| (user.pending(), user.slots));
        if pending > 0 || slots >= self.limits.slots.ordinary {
            return false;
        }
        let is_first = if self.has_ordinary_slot(uid, slots) {
            self.order.count() == 0
        } else {
            self.order.first_without_slot().is_none()
        };
        self.has_own_slot_free(uid, slots) || (is_first && self.free_slots() > 0)
    }

    /// Adds a pending execution that may not be admitted yet.
    pub(crate) fn add_pending(&mut self, user: &User, bytes: u64) {
        let share = self.share_of(user);
        share.uncommitted += 1;
        share.pending_bytes += bytes;
        self.pending += 1;
        self.pending_bytes += bytes;
    }

    /// Discards an execution that was added and has not become eligible.
    pub(crate) fn discard_pending(&mut self, uid: u32, bytes: u64) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.uncommitted -= 1;
            user.pending_bytes -= bytes;
            self.pending -= 1;
            self.pending_bytes -= bytes;
            self.update(uid);
        }
    }

    /// Notes that the execution `number`, which was added with these bytes, may be admitted.
    pub(crate) fn make_eligible(&mut self, uid: u32, number: u64, bytes: u64) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.uncommitted -= 1;
            user.eligible.insert(number, bytes);
            self.update(uid);
        }
    }

    /// Removes an eligible execution that will not be admitted.
    pub(crate) fn withdraw(&mut self, uid: u32, number: u64) {
        if let Some(user) = self.users.get_mut(&uid)
            && let Some(bytes) = user.eligible.remove(&number)
        {
            user.pending_bytes -= bytes;
            self.pending -= 1;
            self.pending_bytes -= bytes;
            self.update(uid);
        }
    }

    /// Gives the next execution a slot, if one may have it, and returns its number.
    pub(crate) fn admit_next(&mut self) -> Option<u64> {
        let uid = self.next_user()?;
        let user = self.users.get_mut(&uid)?;
        let (number, bytes) = user.eligible.pop_first()?;
        user.pending_bytes -= bytes;
        user.slots += 1;
        self.pending -= 1;
        self.pending_bytes -= bytes;
        self.used_slots += 1;
        // The next turn is a new one.
        if let Some(turn) = user.turn.take() {
            self.order.leave(turn);
        }
        self.update(uid);
        Some(number)
    }

    /// Gives a slot to an execution that was not pending.
    pub(crate) fn take_slot(&mut self, user: &User) {
        self.share_of(user).slots += 1;
        self.used_slots += 1;
        self.update(user.uid);
    }

    /// Frees the slot of an execution of this user.
    pub(crate) fn free_slot(&mut self, uid: u32) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.slots -= 1;
            self.used_slots -= 1;
            self.update(uid);
        }
    }

    /// Returns how many executions are pending.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Returns how many executions have a slot.
    pub(crate) fn used_slots(&self) -> usize {
        self.used_slots
    }

    /// Returns the eligible executions in the order of submission.
    pub(crate) fn eligible(&self) -> Vec<u64> {
        let users = self.users.values();
        let mut numbers: Vec<u64> = users
            .flat_map(|user| user.eligible.keys().copied())
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// Returns the eligible execution that was submitted first.
    pub(crate) fn oldest_eligible(&self) -> Option<u64> {
        let first = |user: &UserShare| user.eligible.keys().next().copied();
        self.users.values().filter_map(first).min()
    }

    /// Returns where the eligible execution `number` of this user is, if everybody's turns go on as they are. The
    /// slots that are kept for root and for users who have none are left out of account.
    pub(crate) fn position(&self, uid: u32, number: u64) -> Option<QueuePosition> {
        let user = self.users.get(&uid)?;
        let own = user.eligible.range(..number).count();
        let is_in_front = |other: &UserShare| match (other.turn, user.turn) {
            (Some(other), Some(turn)) => other.is_before(turn),
            (other, _) => other.is_some(),
        };
        let others = self.users.iter().filter(|(other, _)| **other != uid);
        let ahead = others
            .map(|(_, other)| (own + usize::from(is_in_front(other))).min(other.eligible.len()))
            .fold(own, usize::saturating_add);
        Some(QueuePosition {
            // Those of root beyond the slots for everybody count for root alone.
            running: self.used_ordinary_slots().max(user.slots) as u64,
            max_running: self.limits.slots.ordinary as u64,
            ahead: ahead as u64,
        })
    }

    /// Returns the users who have something pending, or a slot, in the order of their uids.
    pub(crate) fn users(&self) -> Vec<User> {
        let user = |(uid, share): (&u32, &UserShare)| User {
            uid: *uid,
            name: share.name.clone(),
        };
        let mut users: Vec<User> = self.users.iter().map(user).collect();
        users.sort_unstable_by_key(|user| user.uid);
        users
    }

    /// Returns what a user takes and may take.
    pub(crate) fn quota(&self, user: User) -> Quota {
        let uid = user.uid;
        let share = self.users.get(&uid);
        // What another owner of the uid takes is nobody's business.
        let share = share.filter(|share| share.name == user.name);
        Quota {
            user,
            pending: share.map_or(0, |share| share.pending() as u64),
            max_pending: self.limits.pending.of_user(uid),
            pending_bytes: share.map_or(0, |share| share.pending_bytes),
            max_pending_bytes: self.limits.pending_bytes.of_user(uid),
            running: share.map_or(0, |share| share.slots as u64),
            max_running: self.limits.slots.ordinary as u64,
            // The budgets of the logs have them.
            log_disk_bytes: 0,
            max_log_disk_bytes: 0,
            // The store knows it.
            history: HistoryQuota::default(),
        }
    }

    /// Returns the user whose execution is admitted next, if there is a slot for it.
    fn next_user(&self) -> Option<u32> {
        if let Some(root) = self.users.get(&ROOT)
            && root.turn.is_some()
            && self.has_own_slot_free(ROOT, root.slots)
        {
            return Some(ROOT);
        }
        let free = self.free_slots();
        if free == 0 {
            return None;
        }
        let reserved = match self.order.count() {
            0 | 1 => 0,
            _ => self.limits.newcomer_slots,
        };
        let with_slot = || self.order.first_with_slot().filter(|_| free > reserved);
        self.order.first_without_slot().or_else(with_slot)
    }

    /// Returns how many slots for everybody are free.
    fn free_slots(&self) -> usize {
        let used = self.used_ordinary_slots();
        self.limits.slots.ordinary.saturating_sub(used)
    }

    /// Returns how many of the slots for everybody are in use.
    fn used_ordinary_slots(&self) -> usize {
        let root = self.users.get(&ROOT).map_or(0, |root| root.slots);
        self.used_slots - root.min(self.limits.slots.root)
    }

    /// Returns whether a user with `slots` slots can have one more of those beyond the slots for everybody.
    fn has_own_slot_free(&self, uid: u32, slots: usize) -> bool {
        uid == ROOT && slots < self.limits.slots.root
    }

    /// Returns whether a user with `slots` slots has one of those for everybody.
    fn has_ordinary_slot(&self, uid: u32, slots: usize) -> bool {
        let own = if uid == ROOT {
            self.limits.slots.root
        } else {
            0
        };
        slots > own
    }

    fn share_of(&mut self, user: &User) -> &mut UserShare {
        let share = self.users.entry(user.uid).or_default();
        share.name.clone_from(&user.name);
        share
    }

    /// Updates the place of a user in the line after a change, and forgets a user who takes nothing.
    fn update(&mut self, uid: u32) {
        let Some(user) = self.users.get(&uid) else {
            return;
        };
        let is_waiting = !user.eligible.is_empty() && user.slots < self.limits.slots.ordinary;
        let has_slot = self.has_ordinary_slot(uid, user.slots);
        let turn = match (user.turn, is_waiting) {
            (None, true) => Some(self.order.join(uid, has_slot)),
            (Some(turn), true) if turn.has_slot != has_slot => {
                Some(self.order.change(turn, uid, has_slot))
            }
            (Some(turn), true) => Some(turn),
            (Some(turn), false) => {
                self.order.leave(turn);
                None
            }
            (None, false) => None,
        };
        let is_gone = user.pending() == 0 && user.slots == 0;
        if is_gone {
            self.users.remove(&uid);
        } else if let Some(user) = self.users.get_mut(&uid) {
            user.turn = turn;
        }
    }
}
