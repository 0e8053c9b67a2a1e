//! What must hold after every step, and what the check of fairness sees.

use super::World;
use crate::store::{Change, ChangeEntry, CommitOutcome};

impl World {
    /// Checks that no command has begun whose cancel was answered before.
    pub(super) fn check_nothing_cancelled_has_begun(&mut self) {
        for id in self.shims.take_begun() {
            let mut cancelled = self.clients.cancelled.iter();
            let answer = cancelled.find(|(cancelled, _)| *cancelled == id);
            assert_eq!(answer, None, "{id} has begun");
        }
    }

    /// Checks that every end that a query would not find in the database is in memory.
    pub(super) fn check_memory_has_what_the_database_lacks(&self) {
        for id in self.disk.journaled_ends() {
            assert!(self.number_in_memory(id).is_some(), "{id} is nowhere");
        }
    }

    /// Checks that each user is charged with all that is on the disk, and with what may still be written.
    pub(super) fn check_logs_are_charged(&self) {
        let mut on_disk = self.disk.log_bytes();
        for (id, bytes) in self.shims.log_budgets() {
            if let Some(uid) = self.disk.unfinished_uid(id) {
                *on_disk.entry(uid).or_default() += bytes;
            }
        }
        for (uid, bytes) in on_disk {
            let charged = self.scheduler.log_budgets.used(uid);
            assert!(
                charged >= bytes,
                "{uid} has {bytes}, and is charged with {charged}"
            );
        }
    }

    /// Shows an admission, or an end, to the check of fairness.
    pub(super) fn watch_change(&mut self, entry: &ChangeEntry) {
        let Some(fairness) = &mut self.fairness else {
            return;
        };
        match &entry.change {
            Change::Submitted {
                submission,
                is_admitted,
                ..
            } => {
                let uid = submission.submitter.uid;
                let seen = (uid, submission.number, *is_admitted);
                self.submissions.insert(entry.ticket, seen);
                if *is_admitted {
                    fairness.on_slot_taken(uid);
                }
            }
            Change::Admitted { number, .. } => fairness.on_admitted(*number),
            Change::Finished { record } => fairness.on_over(record.submitted_by.uid, record.number),
            _ => {}
        }
    }

    /// Shows what became of a submission to the check of fairness.
    pub(super) fn watch_outcome(&mut self, ticket: u64, outcome: &CommitOutcome) {
        if let Some((uid, number, is_admitted)) = self.submissions.remove(&ticket)
            && let Some(fairness) = &mut self.fairness
        {
            match (outcome, is_admitted) {
                (CommitOutcome::Committed | CommitOutcome::Journaled { .. }, false) => {
                    fairness.on_eligible(uid, number)
                }
                (CommitOutcome::Committed | CommitOutcome::Journaled { .. }, true) => {}
                (_, true) => fairness.on_free_slot(uid),
                (_, false) => {}
            }
        }
    }
}
