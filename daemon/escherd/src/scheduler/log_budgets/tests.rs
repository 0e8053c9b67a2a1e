//! Tests of the budgets alone.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1024 * 1024;
const ALICE: u32 = 1000;
const BOB: u32 = 1001;

/// Budgets where each user has a quarter of `capacity`.
fn budgets(capacity: u64) -> LogBudgets {
    let mut budgets = LogBudgets::new(Percent::new(25).unwrap());
    budgets.set_capacity(Some(capacity));
    budgets
}

#[test]
fn a_command_begins_with_the_first_budget_and_gets_more_up_to_the_share() {
    let mut budgets = budgets(4096 * MIB);
    assert_eq!(budgets.start(1, ALICE, u64::MAX), FIRST_BYTES);
    assert_eq!(budgets.grow(1, 2 * FIRST_BYTES), Some(2 * FIRST_BYTES));
    assert_eq!(budgets.grow(1, 4096 * MIB), Some(1024 * MIB));
    assert_eq!(budgets.grow(1, 8192 * MIB), Some(1024 * MIB));
    assert_eq!(
        (budgets.used(ALICE), budgets.limit(ALICE)),
        (1024 * MIB, 1024 * MIB)
    );
    assert_eq!(budgets.start(2, BOB, u64::MAX), FIRST_BYTES);
    assert_eq!(budgets.grow(3, MIB), None);
}

#[test]
fn a_budget_is_never_more_than_the_log_may_take_and_never_nothing() {
    let mut budgets = budgets(4 * MIB);
    assert_eq!(budgets.start(1, ALICE, 1000), 1000);
    assert_eq!(budgets.start(2, ALICE, u64::MAX), (MIB - 1000) / 8);
    assert_eq!(budgets.grow(2, u64::MAX), Some(MIB - 1000));
    assert_eq!(budgets.start(3, ALICE, u64::MAX), MIN_BYTES);
    assert_eq!(budgets.grow(3, u64::MAX), Some(MIN_BYTES));
    assert_eq!(budgets.start(4, ALICE, 10), 10);
}

#[test]
fn a_finished_log_takes_the_place_of_its_budget_until_it_is_removed() {
    let mut budgets = budgets(4 * MIB);
    budgets.set_finished(&BTreeMap::from([(ALICE, 100), (BOB, 7)]));
    let _ = budgets.start(1, ALICE, u64::MAX);
    budgets.finish(1, ALICE, 20);
    assert_eq!((budgets.used(ALICE), budgets.used(BOB)), (120, 7));
    // One that was never launched, and its log.
    budgets.finish(2, ALICE, 0);
    budgets.remove(ALICE, 100);
    assert_eq!(budgets.used(ALICE), 20);
    budgets.remove(ALICE, 20);
    budgets.remove(BOB, 7);
    assert!(budgets.users.is_empty() && budgets.running.is_empty());
}

#[test]
fn root_may_have_the_whole_disk_and_a_disk_of_unknown_size_has_no_limit() {
    let mut budgets = budgets(4 * MIB);
    assert_eq!((budgets.limit(ROOT), budgets.limit(ALICE)), (4 * MIB, MIB));
    budgets.set_share(Percent::ALL);
    assert_eq!(budgets.limit(ALICE), 4 * MIB);
    budgets.set_capacity(None);
    assert_eq!(budgets.start(1, ALICE, u64::MAX), FIRST_BYTES);
    assert_eq!(budgets.grow(1, u64::MAX), Some(u64::MAX));
}

#[derive(Debug, Clone)]
enum Step {
    Start { uid: u32, max_bytes: u64 },
    Charge { uid: u32, bytes: u64 },
    Grow { which: usize, factor: u64 },
    Finish { which: usize, part: u64 },
    Remove { uid: u32, bytes: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let max_bytes = prop_oneof![Just(u64::MAX), 1..FIRST_BYTES];
    prop_oneof![
        4 => (0..4_u32, max_bytes).prop_map(|(uid, max_bytes)| Step::Start { uid, max_bytes }),
        1 => (0..4_u32, 1..FIRST_BYTES).prop_map(|(uid, bytes)| Step::Charge { uid, bytes }),
        4 => (any::<usize>(), 1..9_u64).prop_map(|(which, factor)| Step::Grow { which, factor }),
        3 => (any::<usize>(), 0..5_u64).prop_map(|(which, part)| Step::Finish { which, part }),
        1 => (0..4_u32, 0..FIRST_BYTES).prop_map(|(uid, bytes)| Step::Remove { uid, bytes }),
    ]
}

proptest! {
    #[test]
    fn nobody_gets_more_than_the_share_and_nobody_elses_grant_changes_that(
        steps in prop::collection::vec(step(), 0..200),
        capacity in 1..(2048 * MIB),
    ) {
        let mut all = budgets(capacity);
        // Each user with the disk to itself: it is given the same.
        let mut alone: BTreeMap<u32, LogBudgets> =
            (0..4).map(|uid| (uid, budgets(capacity))).collect();
        let mut running: Vec<(u64, u32, u64)> = Vec::new();
        // What was given beyond the share: to shims of an earlier escherd, and as minimum budgets.
        let mut beyond: BTreeMap<u32, u64> = BTreeMap::new();
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::Start { uid, max_bytes } => {
                    let bytes = all.start(number, uid, max_bytes);
                    let own = alone.get_mut(&uid).unwrap();
                    prop_assert_eq!(own.start(number, uid, max_bytes), bytes);
                    prop_assert!(bytes > 0 && bytes <= FIRST_BYTES.min(max_bytes));
                    if bytes <= MIN_BYTES {
                        *beyond.entry(uid).or_default() += bytes;
                    }
                    running.push((number, uid, bytes));
                }
                Step::Charge { uid, bytes } => {
                    all.charge(number, uid, bytes);
                    alone.get_mut(&uid).unwrap().charge(number, uid, bytes);
                    *beyond.entry(uid).or_default() += bytes;
                    running.push((number, uid, bytes));
                }
                Step::Grow { which, factor } if !running.is_empty() => {
                    let place = which % running.len();
                    let (number, uid, bytes) = running[place];
                    let wanted = bytes * factor;
                    let grown = all.grow(number, wanted).unwrap();
                    prop_assert_eq!(alone.get_mut(&uid).unwrap().grow(number, wanted), Some(grown));
                    prop_assert!((bytes..=wanted).contains(&grown));
                    running[place].2 = grown;
                }
                Step::Finish { which, part } if !running.is_empty() => {
                    let (number, uid, bytes) = running.swap_remove(which % running.len());
                    let log_bytes = bytes * part / 4;
                    all.finish(number, uid, log_bytes);
                    alone.get_mut(&uid).unwrap().finish(number, uid, log_bytes);
                }
                Step::Remove { uid, bytes } => {
                    all.remove(uid, bytes);
                    alone.get_mut(&uid).unwrap().remove(uid, bytes);
                }
                Step::Grow { .. } | Step::Finish { .. } => {}
            }
            for (uid, own) in &alone {
                prop_assert_eq!(all.used(*uid), own.used(*uid));
                let beyond = beyond.get(uid).copied().unwrap_or(0);
                prop_assert!(all.used(*uid) <= all.limit(*uid) + beyond);
                let granted: u64 = running.iter().filter(|run| run.1 == *uid).map(|run| run.2).sum();
                prop_assert!(all.used(*uid) >= granted);
            }
        }
    }
}
