//! How users share the disk of the logs.
//!
//! A user's logs together, those of running and of finished commands, may take the user's share
//! (`users.log_share`). Each launch takes a *budget* from it, and its shim asks for more before that is
//! used up. The size of a finished log takes the place of its budget. So what one user's commands write
//! takes nothing of what is left for others.
//!
//! What one launch gets is at most an eighth of what is left: so there is something left for the next.
//! A command is launched even where nothing is left, with [`MIN_BYTES`].

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::config::Percent;

/// The first budget of a command, as long as it is at most [`FIRST_PART`] of what is left.
pub(crate) const FIRST_BYTES: u64 = 64 * 1024 * 1024;

/// The least budget of a command: the least log of which the oldest output can be forgotten.
pub(crate) const MIN_BYTES: u64 = 64 * 1024;

/// The part of what is left, an eighth, that is the most for a first budget.
const FIRST_PART: u64 = 8;

/// The uid of root, whose share is the whole disk.
const ROOT: u32 = 0;

/// What the logs of each user take of the disk: see the [module](self).
#[derive(Debug)]
pub(crate) struct LogBudgets {
    /// Bytes of the file system; `None` while they are not known: then there is no limit.
    capacity: Option<u64>,
    /// The share of one user.
    share: Percent,
    /// The users who have a log.
    users: HashMap<u32, UserLogs>,
    /// Budgets of launched executions, by number.
    running: HashMap<u64, Budget>,
}

/// Bytes that the logs of one user take.
#[derive(Debug, Default)]
struct UserLogs {
    /// Budgets of the running commands.
    running: u64,
    /// Logs and indexes of the finished ones.
    finished: u64,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    uid: u32,
    bytes: u64,
}

impl UserLogs {
    fn total(&self) -> u64 {
        self.running.saturating_add(self.finished)
    }
}

impl LogBudgets {
    /// Creates the budgets on a disk without logs and of unknown size.
    pub(crate) fn new(share: Percent) -> Self {
        LogBudgets {
            capacity: None,
            share,
            users: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Applies another share. Budgets that were given stay.
    pub(crate) fn set_share(&mut self, share: Percent) {
        self.share = share;
    }

    /// Sets the size of the file system in bytes; `None`: it is not known.
    pub(crate) fn set_capacity(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
    }

    /// Sets the sizes of the finished logs, by user.
    pub(crate) fn set_finished(&mut self, finished: &BTreeMap<u32, u64>) {
        for user in self.users.values_mut() {
            user.finished = 0;
        }
        for (uid, bytes) in finished {
            self.users.entry(*uid).or_default().finished = *bytes;
        }
        self.users.retain(|_, user| user.total() > 0);
    }

    /// Returns the first budget of execution `number` of a user, whose log takes at most `max_bytes`.
    pub(crate) fn start(&mut self, number: u64, uid: u32, max_bytes: u64) -> u64 {
        let first = FIRST_BYTES.min(self.left(uid) / FIRST_PART).max(MIN_BYTES);
        let bytes = first.min(max_bytes);
        self.charge(number, uid, bytes);
        bytes
    }

    /// Charges the budget that the shim of execution `number` has. It takes the place of an earlier one.
    pub(crate) fn charge(&mut self, number: u64, uid: u32, bytes: u64) {
        let earlier = self.running.insert(number, Budget { uid, bytes });
        let user = self.users.entry(uid).or_default();
        let earlier = earlier.map_or(0, |budget| budget.bytes);
        user.running = user.running.saturating_sub(earlier).saturating_add(bytes);
    }

    /// Raises the budget of execution `number` to `wanted` bytes, as far as the share allows it. Returns
    /// what it is then; `None` if the execution has none.
    pub(crate) fn grow(&mut self, number: u64, wanted: u64) -> Option<u64> {
        let Budget { uid, bytes } = *self.running.get(&number)?;
        let most = bytes.saturating_add(self.left(uid));
        let bytes = wanted.min(most).max(bytes);
        self.charge(number, uid, bytes);
        Some(bytes)
    }

    /// Notes the end of execution `number` of a user, whose log and index have `log_bytes`. They take the
    /// place of its budget.
    pub(crate) fn finish(&mut self, number: u64, uid: u32, log_bytes: u64) {
        let budget = self.running.remove(&number);
        let user = self.users.entry(uid).or_default();
        let budget = budget.map_or(0, |budget| budget.bytes);
        user.running = user.running.saturating_sub(budget);
        user.finished = user.finished.saturating_add(log_bytes);
        self.forget_if_nothing(uid);
    }

    /// Notes that finished logs of a user were removed.
    pub(crate) fn remove(&mut self, uid: u32, log_bytes: u64) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.finished = user.finished.saturating_sub(log_bytes);
            self.forget_if_nothing(uid);
        }
    }

    /// Returns the bytes that the logs of a user take, budgets included.
    pub(crate) fn used(&self, uid: u32) -> u64 {
        self.users.get(&uid).map_or(0, UserLogs::total)
    }

    /// Returns the bytes that the logs of a user may take.
    pub(crate) fn limit(&self, uid: u32) -> u64 {
        match self.capacity {
            None => u64::MAX,
            Some(capacity) if uid == ROOT => capacity,
            Some(capacity) => self.share.of(capacity),
        }
    }

    fn left(&self, uid: u32) -> u64 {
        self.limit(uid).saturating_sub(self.used(uid))
    }

    fn forget_if_nothing(&mut self, uid: u32) {
        if self.used(uid) == 0 {
            self.users.remove(&uid);
        }
    }
}
