//! Turns: users who want the same thing at the same time get it one after the other, however much
//! each of them wants.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// A queue of items of several users. The items of one user stay in their order, and the users take turns.
#[derive(Debug)]
pub(crate) struct RoundRobin<T> {
    of_users: HashMap<u32, VecDeque<T>>,
    /// The users with items, the next one first.
    order: VecDeque<u32>,
}

impl<T> Default for RoundRobin<T> {
    fn default() -> Self {
        RoundRobin {
            of_users: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> RoundRobin<T> {
    /// Adds an item of the user `uid`.
    pub(crate) fn push(&mut self, uid: u32, item: T) {
        let items = self.of_users.entry(uid).or_default();
        if items.is_empty() {
            self.order.push_back(uid);
        }
        items.push_back(item);
    }

    /// Removes and returns the next item, with its user.
    pub(crate) fn pop(&mut self) -> Option<(u32, T)> {
        self.pop_if(|_, _| true)
    }

    /// Removes and returns the next item of the first user whose next item `accepts` takes.
    pub(crate) fn pop_if(&mut self, accepts: impl Fn(u32, &T) -> bool) -> Option<(u32, T)> {
        let is_next = |uid: &u32| {
            let next = self.of_users.get(uid).and_then(VecDeque::front);
            next.is_some_and(|item| accepts(*uid, item))
        };
        let index = self.order.iter().position(is_next)?;
        let uid = self.order.remove(index)?;
        let items = self.of_users.get_mut(&uid)?;
        let item = items.pop_front()?;
        if items.is_empty() {
            self.of_users.remove(&uid);
        } else {
            self.order.push_back(uid);
        }
        Some((uid, item))
    }
}

/// Hands out a fixed number of turns. Clones share them.
///
/// Where there is more than one, a user gets the last of them only while it has no other, so that
/// somebody else never waits for one user alone.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    state: Arc<Mutex<TurnState>>,
}

#[derive(Debug)]
struct TurnState {
    free: usize,
    of_users: HashMap<u32, usize>,
    waiting: RoundRobin<oneshot::Sender<Turn>>,
}

/// A turn, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// `None` once the turn was given back.
    turns: Option<Turns>,
    uid: u32,
}

/// A place in the queue for a turn. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct PendingTurn {
    granted: oneshot::Receiver<Turn>,
}

impl TurnState {
    /// Returns whether the user `uid` may have one of the free turns.
    fn may_take(&self, uid: u32) -> bool {
        self.free > 1 || (self.free == 1 && !self.of_users.contains_key(&uid))
    }

    fn take(&mut self, uid: u32) {
        self.free -= 1;
        *self.of_users.entry(uid).or_default() += 1;
    }

    fn give_back(&mut self, uid: u32) {
        self.free += 1;
        if let Some(count) = self.of_users.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                self.of_users.remove(&uid);
            }
        }
    }
}

impl Turns {
    /// Creates `count` turns.
    pub(crate) fn new(count: usize) -> Self {
        Turns {
            state: Arc::new(Mutex::new(TurnState {
                free: count,
                of_users: HashMap::new(),
                waiting: RoundRobin::default(),
            })),
        }
    }

    /// Queues for a turn of the user `uid`.
    pub(crate) fn queue(&self, uid: u32) -> PendingTurn {
        let (grant, granted) = oneshot::channel();
        self.lock().waiting.push(uid, grant);
        self.grant();
        PendingTurn { granted }
    }

    /// Waits for a turn of the user `uid`.
    pub(crate) async fn take(&self, uid: u32) -> Turn {
        let mut pending = self.queue(uid);
        poll_fn(|context| pending.poll(context)).await
    }

    /// Gives the free turns to those who wait.
    fn grant(&self) {
        loop {
            let mut state = self.lock();
            let mut waiting = std::mem::take(&mut state.waiting);
            let next = waiting.pop_if(|uid, _| state.may_take(uid));
            state.waiting = waiting;
            let Some((uid, next)) = next else {
                return;
            };
            state.take(uid);
            drop(state);
            let turn = Turn {
                turns: Some(self.clone()),
                uid,
            };
            if let Err(mut refused) = next.send(turn) {
                // Nobody waits there any more.
                refused.turns = None;
                self.lock().give_back(uid);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.lock().give_back(self.uid);
            turns.grant();
        }
    }
}

impl PendingTurn {
    /// Polls for the turn.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Turn> {
        match Pin::new(&mut self.granted).poll(context) {
            Poll::Ready(Ok(turn)) => Poll::Ready(turn),
            // The turns outlive the wait, and the sender is dropped with them alone.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_however_many_items_each_has() {
        let mut items = RoundRobin::default();
        for item in 0..3 {
            items.push(1, (1, item));
        }
        items.push(2, (2, 0));
        items.push(3, (3, 0));
        items.push(2, (2, 1));
        let order: Vec<_> = std::iter::from_fn(|| items.pop())
            .map(|next| next.1)
            .collect();
        assert_eq!(order, [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2)]);
        assert!(items.of_users.is_empty() && items.order.is_empty());
    }

    #[test]
    fn a_user_whose_item_is_not_accepted_keeps_its_place() {
        let mut items = RoundRobin::default();
        items.push(1, "large");
        items.push(2, "small");
        items.push(2, "small too");
        let small = |_: u32, item: &&str| item.starts_with("small");
        assert_eq!(items.pop_if(small), Some((2, "small")));
        assert_eq!(items.pop(), Some((1, "large")));
        assert_eq!(items.pop(), Some((2, "small too")));
        assert_eq!(items.pop(), None);
    }

    /// Returns the turn if it was granted.
    fn granted(pending: &mut PendingTurn) -> Option<Turn> {
        pending.granted.try_recv().ok()
    }

    #[test]
    fn one_user_never_has_all_turns() {
        let turns = Turns::new(4);
        let mut of_one: Vec<_> = (0..100).map(|_| turns.queue(1)).collect();
        let mut held: Vec<_> = of_one.iter_mut().filter_map(granted).collect();
        assert_eq!(held.len(), 3, "all but the last");
        let mut of_other = turns.queue(2);
        let other = granted(&mut of_other).expect("the last");
        let mut third = turns.queue(3);
        assert!(granted(&mut third).is_none(), "there are four");
        // The first that becomes free is the third user's, though 97 of the first have waited longer.
        drop(held.pop());
        assert!(granted(&mut third).is_some());
        drop(other);
    }

    #[test]
    fn a_single_turn_goes_round_and_passes_those_who_have_left() {
        let turns = Turns::new(1);
        let first = granted(&mut turns.queue(1)).expect("it is free");
        let (mut second, left, mut third) = (turns.queue(1), turns.queue(1), turns.queue(1));
        let mut other = turns.queue(2);
        drop(left);
        drop(first);
        let turn = granted(&mut second).expect("the first in the queue");
        assert!(granted(&mut other).is_none());
        drop(turn);
        let turn = granted(&mut other).expect("the other user before the third of the first");
        drop(turn);
        assert!(granted(&mut third).is_some());
    }
}
