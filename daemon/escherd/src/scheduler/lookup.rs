//! Lookup of executions in memory. Evicted executions, and references by name or by a part of an id, are looked
//! up in the store.

use escher_protocol::id::parse_number;
use escher_protocol::{ExecutionId, Target};

use super::{Entry, Scheduler};
use crate::authz::Scope;

impl Scheduler {
    /// Returns the number of the execution in memory that `target` refers to by number or full id, if it is in
    /// `scope`.
    #[must_use]
    pub fn find(&self, scope: &Scope, target: &Target) -> Option<u64> {
        match target {
            Target::Id(id) => self.by_id(scope, *id),
            Target::Reference(text) => {
                let number = parse_number(text);
                let number = number.and_then(|number| self.visible(scope, number));
                number.or_else(|| self.by_id(scope, text.parse().ok()?))
            }
        }
    }

    /// Returns number and id of the newest execution in memory that the caller itself has submitted.
    #[must_use]
    pub fn newest_own(&self, scope: &Scope) -> Option<(u64, ExecutionId)> {
        let is_own = |entry: &Entry| {
            entry.is_committed && entry.execution.submission.submitter == *scope.caller()
        };
        let newest_first = self.entries.iter().rev();
        newest_first
            .map(|(number, entry)| (*number, entry))
            .find(|(_, entry)| is_own(entry))
            .map(|(number, entry)| (number, entry.execution.submission.id))
    }

    fn by_id(&self, scope: &Scope, id: ExecutionId) -> Option<u64> {
        self.visible(scope, *self.numbers.get(&id)?)
    }

    /// Returns `number` if that execution is in `scope` and its submission is committed.
    fn visible(&self, scope: &Scope, number: u64) -> Option<u64> {
        let entry = self.entries.get(&number)?;
        entry.is_visible_in(scope).then_some(number)
    }

    /// Returns the number of an execution in memory.
    pub(super) fn number_of(&self, id: ExecutionId) -> Option<u64> {
        self.numbers.get(&id).copied()
    }
}

impl Entry {
    /// Returns whether the execution is in `scope` and its submission is committed.
    pub(super) fn is_visible_in(&self, scope: &Scope) -> bool {
        self.is_committed && scope.includes(&self.execution.submission.submitter)
    }
}

#[cfg(test)]
mod tests {
    use escher_protocol::ResourceLimits;

    use super::super::Scheduler;
    use super::super::testbed::{settings, submit};
    use crate::authz::Scope;

    #[test]
    fn digits_with_a_leading_zero_do_not_name_the_execution_of_that_number() {
        let mut scheduler = Scheduler::new(settings(10));
        let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
        let find = |text: &str| scheduler.find(&Scope::for_root(), &text.into());
        assert_eq!(find(&number.to_string()), Some(number));
        assert_eq!(find(&format!("00{number}")), None);
        assert_eq!(find(&format!("+{number}")), None);
    }
}
