//! The decision whose records or logs are removed when there are too many: a function of numbers.
//!
//! The share of a user is the limit divided by the number of users who have something. The user with
//! most, who is furthest above its share, loses its oldest first. So one user's flood removes what
//! that user has, and a user within its share loses nothing.

use std::collections::BinaryHeap;

/// What a user can lose: a record or a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removable {
    /// The number of its execution.
    pub(super) number: u64,
    /// How much the user has less without it.
    pub(super) amount: u64,
}

/// Chooses what to remove until all users together have at most `limit`: at most `max_chosen`, the
/// numbers of executions, in the order of removal.
///
/// `used` is what each user has. `next_oldest` returns what a user loses next, the
/// oldest first, and `None` when that user has nothing more that may be removed.
///
/// # Errors
/// Those of `next_oldest`.
pub(super) fn choose<U: Ord, E>(
    used: impl IntoIterator<Item = (U, u64)>,
    limit: u64,
    max_chosen: usize,
    mut next_oldest: impl FnMut(&U) -> Result<Option<Removable>, E>,
) -> Result<Vec<u64>, E> {
    let mut richest: BinaryHeap<(u64, U)> = used
        .into_iter()
        .filter(|(_, amount)| *amount > 0)
        .map(|(user, amount)| (amount, user))
        .collect();
    let mut total = richest
        .iter()
        .fold(0, |total: u64, (amount, _)| total.saturating_add(*amount));
    // Those who have something; a user who has nothing to lose is still one of them.
    let mut users = richest.len() as u64;
    let mut chosen = Vec::new();
    while total > limit
        && chosen.len() < max_chosen
        && let Some((amount, user)) = richest.pop()
    {
        if amount <= share(limit, users) {
            break;
        }
        let Some(removable) = next_oldest(&user)? else {
            continue;
        };
        chosen.push(removable.number);
        let rest = amount.saturating_sub(removable.amount);
        total -= amount - rest;
        if rest > 0 {
            richest.push((rest, user));
        } else {
            users -= 1;
        }
    }
    Ok(chosen)
}

/// Returns the share of each of `users` who have something.
#[must_use]
pub fn share(limit: u64, users: u64) -> u64 {
    limit / users.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::{BTreeMap, VecDeque};
    use std::convert::Infallible;

    use proptest::prelude::*;

    /// The amounts that each user has, the oldest first, and how many of them may be removed.
    type Users = BTreeMap<u32, (VecDeque<u64>, usize)>;

    fn users(users: &[(u32, &[u64], usize)]) -> Users {
        let user = |(uid, amounts, removable): &(u32, &[u64], usize)| {
            (*uid, (amounts.iter().copied().collect(), *removable))
        };
        users.iter().map(user).collect()
    }

    fn amount_of(user: &(VecDeque<u64>, usize)) -> u64 {
        user.0.iter().sum()
    }

    fn total(users: &Users) -> u64 {
        users.values().map(amount_of).sum()
    }

    fn having_something(users: &Users) -> u64 {
        users.values().filter(|user| amount_of(user) > 0).count() as u64
    }

    /// Removes from `users` what is chosen, and calls `before` with the loser before each removal.
    /// Returns the losers in order.
    fn remove(
        users: &mut Users,
        limit: u64,
        max_chosen: usize,
        mut before: impl FnMut(&Users, u32),
    ) -> Vec<u32> {
        let used: Vec<(u32, u64)> = users
            .iter()
            .map(|(uid, user)| (*uid, amount_of(user)))
            .collect();
        let chosen = choose(used, limit, max_chosen, |uid| {
            if users[uid].1 == 0 {
                return Ok::<_, Infallible>(None);
            }
            before(users, *uid);
            let user = users.get_mut(uid).unwrap();
            user.1 -= 1;
            let amount = user.0.pop_front().unwrap();
            Ok(Some(Removable {
                number: (*uid).into(),
                amount,
            }))
        });
        let uids = chosen.unwrap().into_iter();
        uids.map(|uid| u32::try_from(uid).unwrap()).collect()
    }

    #[test]
    fn the_user_with_most_loses_the_oldest_first() {
        for (mut before, limit, losers, after) in [
            // Within the limit.
            (users(&[(1, &[5, 5], 2)]), 10, vec![], vec![(1, 10)]),
            // One user has everything, and keeps the newest.
            (users(&[(1, &[5, 5, 5], 3)]), 10, vec![1], vec![(1, 10)]),
            // The flood of one user costs the other nothing.
            (
                users(&[(1, &[1, 1, 1], 3), (2, &[4, 4, 4], 3)]),
                10,
                vec![2, 2],
                vec![(1, 3), (2, 4)],
            ),
            // Both are above their shares, and lose in turn.
            (
                users(&[(1, &[2, 2, 2, 2], 4), (2, &[3, 3, 3], 3)]),
                10,
                vec![2, 1, 2],
                vec![(1, 6), (2, 3)],
            ),
            // What is too new stays: the other is above its share, and loses down to it.
            (
                users(&[(1, &[2, 2, 2, 2], 4), (2, &[9], 0)]),
                10,
                vec![1, 1],
                vec![(1, 4), (2, 9)],
            ),
            // Nothing is allowed.
            (
                users(&[(1, &[1], 1), (2, &[2], 1)]),
                0,
                vec![2, 1],
                vec![(1, 0), (2, 0)],
            ),
        ] {
            let shown = format!("{before:?}");
            assert_eq!(
                remove(&mut before, limit, 100, |_, _| {}),
                losers,
                "{shown}"
            );
            let left: Vec<(u32, u64)> = before
                .iter()
                .map(|(uid, user)| (*uid, amount_of(user)))
                .collect();
            assert_eq!(left, after, "{shown}");
        }
    }

    #[test]
    fn no_more_is_chosen_than_is_asked_for() {
        let mut many = users(&[(1, &[1; 100], 100)]);
        assert_eq!(remove(&mut many, 10, 7, |_, _| {}).len(), 7);
    }

    fn any_users() -> impl Strategy<Value = Users> {
        let user = proptest::collection::vec(1u64..50, 0..20).prop_flat_map(|amounts| {
            let count = amounts.len();
            (Just(amounts.into()), 0..=count)
        });
        proptest::collection::btree_map(0u32..10, user, 0..6)
    }

    proptest! {
        #[test]
        fn nobody_within_its_share_loses_anything(mut users in any_users(), limit in 0u64..800) {
            let within = |users: &Users, uid: u32| {
                amount_of(&users[&uid]) * having_something(users) <= limit
            };
            let mut is_wrong = false;
            remove(&mut users, limit, usize::MAX, |users, uid| {
                is_wrong |= within(users, uid) || total(users) <= limit;
            });
            prop_assert!(!is_wrong);
        }

        #[test]
        fn afterwards_the_total_fits_or_nobody_above_its_share_has_anything_removable(
            mut users in any_users(), limit in 0u64..800
        ) {
            remove(&mut users, limit, usize::MAX, |_, _| {});
            let count = having_something(&users);
            let is_bound = |user: &(VecDeque<u64>, usize)| {
                user.1 == 0 || amount_of(user) * count <= limit
            };
            prop_assert!(total(&users) <= limit || users.values().all(is_bound));
        }

        #[test]
        fn if_everything_is_removable_the_total_fits(mut users in any_users(), limit in 0u64..800) {
            for user in users.values_mut() {
                user.1 = user.0.len();
            }
            remove(&mut users, limit, usize::MAX, |_, _| {});
            prop_assert!(total(&users) <= limit);
        }
    }
}
