//! The users who wait for a slot, in the order of their turns.

use std::collections::BTreeMap;

/// A line of users. A user joins at its end, and joins anew after each admission: so each has its turn once before
/// anybody has it twice. Users who have no slot yet are in front of all others.
#[derive(Debug, Default)]
pub(super) struct AdmissionOrder {
    without_slot: BTreeMap<u64, u32>,
    with_slot: BTreeMap<u64, u32>,
    last: u64,
}

/// A user's place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AdmissionTurn {
    number: u64,
    pub(super) has_slot: bool,
}

impl AdmissionTurn {
    /// Returns whether this turn comes before `other`.
    pub(super) fn is_before(self, other: AdmissionTurn) -> bool {
        (self.has_slot, self.number) < (other.has_slot, other.number)
    }
}

impl AdmissionOrder {
    /// Adds a user at the end of the line.
    pub(super) fn join(&mut self, uid: u32, has_slot: bool) -> AdmissionTurn {
        self.last += 1;
        let turn = AdmissionTurn {
            number: self.last,
            has_slot,
        };
        self.part(has_slot).insert(turn.number, uid);
        turn
    }

    /// Removes the user who has this place.
    pub(super) fn leave(&mut self, turn: AdmissionTurn) {
        self.part(turn.has_slot).remove(&turn.number);
    }

    /// Moves a user who got its first slot, or lost its last one, without an admission. Its turn stays.
    pub(super) fn change(
        &mut self,
        turn: AdmissionTurn,
        uid: u32,
        has_slot: bool,
    ) -> AdmissionTurn {
        self.leave(turn);
        self.part(has_slot).insert(turn.number, uid);
        AdmissionTurn { has_slot, ..turn }
    }

    /// Returns the first user who has no slot.
    pub(super) fn first_without_slot(&self) -> Option<u32> {
        self.without_slot.values().next().copied()
    }

    /// Returns the first user who has a slot.
    pub(super) fn first_with_slot(&self) -> Option<u32> {
        self.with_slot.values().next().copied()
    }

    /// Returns how many users wait.
    pub(super) fn count(&self) -> usize {
        self.without_slot.len() + self.with_slot.len()
    }

    fn part(&mut self, has_slot: bool) -> &mut BTreeMap<u64, u32> {
        if has_slot {
            &mut self.with_slot
        } else {
            &mut self.without_slot
        }
    }
}
