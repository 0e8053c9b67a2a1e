//! The merge of the executions in memory with those in the store, while executions move from one to
//! the other.
//!
//! It goes range by range, from the highest numbers to the lowest: first the page from memory, which
//! decides the range, then all pages of the store for that range. So an execution that leaves memory
//! in between is missed by neither: if its page from memory does not have it, it had left before, and
//! the store has it. The page also says which numbers were in memory, and the store's records of those
//! are skipped.

use std::collections::VecDeque;
use std::ops::Range;

use escher_protocol::ExecutionRecord;

use crate::scheduler::Listed;
use crate::store::HistoryPage;

/// The state of a merge.
#[derive(Debug)]
pub(super) struct Merge {
    /// The rest of the range's page from memory, newest first.
    in_memory: VecDeque<ExecutionRecord>,
    /// The rest of the last page from the store, newest first.
    in_store: VecDeque<ExecutionRecord>,
    /// The numbers of the range that the store is still to be read for.
    unread_in_store: Range<u64>,
    /// The numbers of the range that were in memory.
    known_in_memory: Vec<u64>,
    /// The next range begins below this number; `None`: there is none.
    before: Option<u64>,
}

/// What a merge needs, or has.
#[derive(Debug)]
pub(super) enum MergeStep {
    /// The executions in memory have to be read, from the highest number below this on.
    ReadMemory {
        /// The number.
        before: u64,
    },
    /// The finished executions in the store with these numbers have to be read, from the highest on.
    ReadStore {
        /// The numbers.
        range: Range<u64>,
    },
    /// This is the next record.
    Take(Box<ExecutionRecord>),
    /// There are no more records.
    End,
}

impl Merge {
    /// Creates a merge of the executions with lower numbers than this.
    pub(super) fn below(number: u64) -> Self {
        Merge {
            in_memory: VecDeque::new(),
            in_store: VecDeque::new(),
            unread_in_store: 0..0,
            known_in_memory: Vec::new(),
            before: Some(number),
        }
    }

    /// Returns whether the next step is to read.
    pub(super) fn must_read(&self) -> bool {
        self.must_read_store() || self.is_range_over() && self.before.is_some()
    }

    fn must_read_store(&self) -> bool {
        self.in_store.is_empty() && !self.unread_in_store.is_empty()
    }

    fn is_range_over(&self) -> bool {
        self.in_memory.is_empty() && self.in_store.is_empty()
    }

    /// Returns the next step, and takes its record. A page that it asks for has to be added.
    pub(super) fn next_step(&mut self) -> MergeStep {
        if self.must_read_store() {
            let range = self.unread_in_store.clone();
            return MergeStep::ReadStore { range };
        }
        let number = |record: &ExecutionRecord| record.number;
        let newest_in_store = self.in_store.front().map(number);
        let record = if self.in_memory.front().map(number) > newest_in_store {
            self.in_memory.pop_front()
        } else {
            self.in_store.pop_front()
        };
        match (record, self.before) {
            (Some(record), _) => MergeStep::Take(Box::new(record)),
            (None, Some(before)) => MergeStep::ReadMemory { before },
            (None, None) => MergeStep::End,
        }
    }

    /// Begins the next range, with its page from memory.
    pub(super) fn add_page_in_memory(&mut self, before: u64, page: Listed) {
        self.in_memory = page.records.into();
        self.known_in_memory = page.in_memory;
        self.unread_in_store = page.next.unwrap_or(0)..before;
        self.before = page.next;
    }

    /// Adds the next page from the store.
    pub(super) fn add_page_in_store(&mut self, page: HistoryPage<ExecutionRecord>) {
        let known = &self.known_in_memory;
        let is_new = |record: &ExecutionRecord| known.binary_search(&record.number).is_err();
        self.in_store = page.found.into_iter().filter(is_new).collect();
        self.unread_in_store.end = page.next.unwrap_or(self.unread_in_store.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use crate::execution::{Execution, State, sample};
    use escher_protocol::{ExecutionRequest, Resources};

    /// Where the executions are: each in memory, in the store, or in both.
    #[derive(Debug, Clone, Default)]
    struct World {
        in_memory: BTreeSet<u64>,
        in_store: BTreeSet<u64>,
        next: u64,
    }

    /// What happens between two steps of a list.
    #[derive(Debug, Clone, Copy)]
    enum Happening {
        Submit,
        /// This one of those in memory is written to the store.
        Finish(usize),
        /// This one of those that are in both leaves memory.
        Evict(usize),
    }

    fn nth(numbers: impl Iterator<Item = u64>, n: usize) -> Option<u64> {
        let numbers: Vec<u64> = numbers.collect();
        numbers.get(n.checked_rem(numbers.len())?).copied()
    }

    impl World {
        fn happen(&mut self, happening: Happening) {
            match happening {
                Happening::Submit => {
                    self.next += 1;
                    self.in_memory.insert(self.next);
                }
                Happening::Finish(which) => {
                    let finished = nth(self.in_memory.iter().copied(), which);
                    self.in_store.extend(finished);
                }
                Happening::Evict(which) => {
                    let both = self.in_memory.intersection(&self.in_store).copied();
                    if let Some(number) = nth(both, which) {
                        self.in_memory.remove(&number);
                    }
                }
            }
        }

        /// Does what the scheduler does, with pages of `limit`.
        fn list_memory(&self, before: u64, limit: usize) -> Listed {
            let newest_first = self.in_memory.range(..before).rev();
            let numbers: Vec<u64> = newest_first.take(limit).copied().collect();
            let next = numbers.last().copied().filter(|_| numbers.len() == limit);
            Listed {
                records: numbers.into_iter().map(record).collect(),
                next,
                in_memory: self
                    .in_memory
                    .range(next.unwrap_or(0)..before)
                    .copied()
                    .collect(),
            }
        }

        /// Does what the store does, with pages of `limit`.
        fn list_store(&self, range: Range<u64>, limit: usize) -> HistoryPage<ExecutionRecord> {
            let newest_first = self.in_store.range(range).rev();
            let numbers: Vec<u64> = newest_first.take(limit).copied().collect();
            let next = numbers.last().copied().filter(|_| numbers.len() == limit);
            HistoryPage {
                found: numbers.into_iter().map(record).collect(),
                next,
            }
        }
    }

    fn record(number: u64) -> ExecutionRecord {
        let submission = sample::submission(number, ExecutionRequest::default());
        Execution::in_state(submission, State::Queued).record(Resources::default())
    }

    /// Lists everything; before each page the next of `happenings` happen. Returns the numbers.
    fn list(
        world: &mut World,
        limit: usize,
        mut happenings: impl Iterator<Item = Vec<Happening>>,
    ) -> Vec<u64> {
        let mut merge = Merge::below(u64::MAX);
        let mut listed = Vec::new();
        loop {
            let must_read = merge.must_read();
            let step = merge.next_step();
            let is_read = matches!(
                step,
                MergeStep::ReadMemory { .. } | MergeStep::ReadStore { .. }
            );
            assert_eq!(must_read, is_read);
            if is_read {
                for happening in happenings.next().unwrap_or_default() {
                    world.happen(happening);
                }
            }
            match step {
                MergeStep::ReadMemory { before } => {
                    merge.add_page_in_memory(before, world.list_memory(before, limit));
                }
                MergeStep::ReadStore { range } => {
                    merge.add_page_in_store(world.list_store(range, limit));
                }
                MergeStep::Take(record) => listed.push(record.number),
                MergeStep::End => return listed,
            }
        }
    }

    #[test]
    fn an_execution_that_leaves_memory_between_two_pages_is_not_missed() {
        let mut world = World {
            in_memory: (1..=4).collect(),
            in_store: BTreeSet::new(),
            next: 4,
        };
        // Execution 1 ends and leaves memory after the first page from memory, which has only 4 and 3.
        let leave = vec![Happening::Finish(0), Happening::Evict(0)];
        let happenings = [Vec::new(), leave];
        let listed = list(&mut world, 2, happenings.into_iter());
        assert_eq!(listed, [4, 3, 2, 1]);
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            Just(Happening::Submit),
            any::<usize>().prop_map(Happening::Finish),
            any::<usize>().prop_map(Happening::Evict),
        ]
    }

    proptest! {
        #[test]
        fn everything_is_listed_once_in_order_whatever_moves_meanwhile(
            places in proptest::collection::vec(1..4u8, 0..30),
            limit in 1..6usize,
            happenings in proptest::collection::vec(
                proptest::collection::vec(happening(), 0..6),
                0..40,
            ),
        ) {
            let numbered: BTreeMap<u64, u8> = (1..).zip(places).collect();
            let of = |place: u8| {
                let here = numbered.iter().filter(move |(_, places)| *places & place != 0);
                here.map(|(number, _)| *number).collect::<BTreeSet<u64>>()
            };
            let mut world = World {
                in_memory: of(1),
                in_store: of(2),
                next: numbered.len() as u64,
            };
            let listed = list(&mut world, limit, happenings.into_iter());
            let is_descending = listed.windows(2).all(|pair| pair[0] > pair[1]);
            prop_assert!(is_descending, "{:?}", listed);
            let at_first: Vec<u64> = numbered.keys().rev().copied().collect();
            let old: Vec<u64> = listed
                .into_iter()
                .filter(|number| numbered.contains_key(number))
                .collect();
            prop_assert_eq!(old, at_first);
        }
    }
}
