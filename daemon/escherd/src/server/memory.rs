//! The memory that clients can make escherd hold: frames that have not arrived completely, requests
//! in flight, what was read for their answers, and answers that are not written yet.
//!
//! Each of these has a [`Charge`] against a budget, until it is gone. What would exceed the budget
//! waits, so that its connection is not read (or its stream does not go on), or is refused where the
//! request can be repeated. A user may hold as much as is still free beside it, up to a limit. So
//! something is always left for the next user, and those who hold most get nothing more until there is
//! as much for the others.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::config::ClientMemoryLimits;
use crate::turns::RoundRobin;

/// What root may hold beyond the budget.
const ROOT_RESERVE_BYTES: usize = 32 * 1024 * 1024;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct MemoryBudget {
    state: Arc<Mutex<BudgetState>>,
    gauge: Gauge,
}

#[derive(Debug)]
struct BudgetState {
    limits: ClientMemoryLimits,
    used: usize,
    of_users: HashMap<u32, usize>,
    waiting: RoundRobin<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    grant: oneshot::Sender<Charge>,
}

/// The budget as one user sees it.
#[derive(Debug, Clone)]
pub(super) struct UserMemory {
    budget: MemoryBudget,
    uid: u32,
}

/// Bytes that are charged until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    /// `None` once the bytes were given back.
    memory: Option<UserMemory>,
    bytes: usize,
}

/// A place in the queue for a charge. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct PendingCharge {
    granted: oneshot::Receiver<Charge>,
}

impl BudgetState {
    /// Returns whether the user `uid` may hold `bytes` more.
    fn allows(&self, uid: u32, bytes: usize) -> bool {
        let ClientMemoryLimits {
            max_bytes,
            max_bytes_per_user,
        } = self.limits;
        let total = self.used.saturating_add(bytes);
        if uid == 0 {
            return total <= max_bytes.saturating_add(ROOT_RESERVE_BYTES);
        }
        let of_user = self.of_users.get(&uid).copied().unwrap_or(0) + bytes;
        let free = max_bytes.checked_sub(total);
        of_user <= max_bytes_per_user && free.is_some_and(|free| of_user <= free)
    }

    fn add(&mut self, uid: u32, bytes: usize) {
        if bytes > 0 {
            self.used += bytes;
            *self.of_users.entry(uid).or_default() += bytes;
        }
    }

    fn remove(&mut self, uid: u32, bytes: usize) {
        self.used -= bytes;
        if let Some(of_user) = self.of_users.get_mut(&uid) {
            *of_user -= bytes;
            if *of_user == 0 {
                self.of_users.remove(&uid);
            }
        }
    }
}

impl MemoryBudget {
    /// Creates a budget of which nothing is used.
    pub(super) fn new(limits: ClientMemoryLimits) -> Self {
        MemoryBudget {
            state: Arc::new(Mutex::new(BudgetState {
                limits,
                used: 0,
                of_users: HashMap::new(),
                waiting: RoundRobin::default(),
            })),
            gauge: Gauge::default(),
        }
    }

    /// Applies new limits. What is held already stays.
    pub(super) fn set_limits(&self, limits: ClientMemoryLimits) {
        self.lock().limits = limits;
        self.grant();
    }

    /// Returns the budget as the user `uid` sees it.
    pub(super) fn of_user(&self, uid: u32) -> UserMemory {
        UserMemory {
            budget: self.clone(),
            uid,
        }
    }

    /// Returns the metric of the bytes that are charged.
    pub(super) fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// Gives those who wait what has become free, in turns.
    fn grant(&self) {
        loop {
            let mut state = self.lock();
            let mut waiting = std::mem::take(&mut state.waiting);
            let next = waiting.pop_if(|uid, waiting| {
                waiting.grant.is_closed() || state.allows(uid, waiting.bytes)
            });
            state.waiting = waiting;
            let Some((uid, Waiting { bytes, grant })) = next else {
                self.gauge
                    .set(i64::try_from(state.used).unwrap_or(i64::MAX));
                return;
            };
            state.add(uid, bytes);
            drop(state);
            let charge = Charge {
                memory: Some(self.of_user(uid)),
                bytes,
            };
            if let Err(mut refused) = grant.send(charge) {
                // Nobody waits there any more.
                refused.memory = None;
                self.lock().remove(uid, bytes);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserMemory {
    /// Queues for a charge of `bytes`.
    pub(super) fn queue(&self, bytes: usize) -> PendingCharge {
        let (grant, granted) = oneshot::channel();
        let waiting = Waiting { bytes, grant };
        self.budget.lock().waiting.push(self.uid, waiting);
        self.budget.grant();
        PendingCharge { granted }
    }

    /// Waits until there is room for `bytes`, and charges them.
    pub(super) async fn charge(&self, bytes: usize) -> Charge {
        let mut pending = self.queue(bytes);
        poll_fn(|context| pending.poll(context)).await
    }

    /// Returns a charge of nothing, which can grow.
    pub(super) fn nothing(&self) -> Charge {
        Charge {
            memory: Some(self.clone()),
            bytes: 0,
        }
    }
}

impl Charge {
    /// Returns whether any bytes are charged.
    pub(super) fn is_something(&self) -> bool {
        self.bytes > 0
    }

    /// Changes the charge to `bytes` if there is room for that now. Returns whether there is.
    pub(super) fn try_resize(&mut self, bytes: usize) -> bool {
        let Some(UserMemory { budget, uid }) = &self.memory else {
            return false;
        };
        let more = bytes.saturating_sub(self.bytes);
        let is_allowed = more == 0 || budget.lock().allows(*uid, more);
        if is_allowed {
            self.resize(bytes);
        }
        is_allowed
    }

    /// Changes the charge to `bytes`, which are in memory already.
    fn resize(&mut self, bytes: usize) {
        let Some(UserMemory { budget, uid }) = &self.memory else {
            return;
        };
        let mut state = budget.lock();
        state.remove(*uid, self.bytes);
        state.add(*uid, bytes);
        drop(state);
        self.bytes = bytes;
        budget.grant();
    }

    /// Moves `bytes` into a charge of their own. They are in memory already, so they are charged even
    /// if there are fewer left here.
    pub(super) fn split(&mut self, bytes: usize) -> Charge {
        self.resize(self.bytes.max(bytes));
        self.bytes -= bytes;
        Charge {
            memory: self.memory.clone(),
            bytes,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.resize(0);
    }
}

impl PendingCharge {
    /// Polls for the charge.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Charge> {
        match Pin::new(&mut self.granted).poll(context) {
            Poll::Ready(Ok(charge)) => Poll::Ready(charge),
            // The budget outlives the wait, and the sender is dropped with it alone.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(max_bytes: usize, max_bytes_per_user: usize) -> MemoryBudget {
        MemoryBudget::new(ClientMemoryLimits {
            max_bytes,
            max_bytes_per_user,
        })
    }

    impl UserMemory {
        /// Charges `bytes` if there is room for them now.
        fn try_charge(&self, bytes: usize) -> Option<Charge> {
            let mut charge = self.nothing();
            charge.try_resize(bytes).then_some(charge)
        }
    }

    /// Returns the charge if it was granted.
    fn granted(pending: &mut PendingCharge) -> Option<Charge> {
        pending.granted.try_recv().ok()
    }

    #[test]
    fn a_user_may_hold_its_limit_and_no_byte_more() {
        let budget = budget(1000, 100);
        let (one, other) = (budget.of_user(1), budget.of_user(2));
        let mut held = one.try_charge(99).unwrap();
        assert!(one.try_charge(2).is_none());
        assert!(held.try_resize(100), "the limit itself");
        assert!(!held.try_resize(101));
        assert!(one.try_charge(1).is_none());
        assert!(other.try_charge(100).is_some(), "others are not affected");
        drop(held);
        assert_eq!(budget.lock().used, 0);
        assert!(budget.lock().of_users.is_empty());
    }

    #[test]
    fn something_is_left_for_the_next_user_and_for_root() {
        let budget = budget(1000, 1000);
        let take_all = |uid| {
            let memory = budget.of_user(uid);
            std::iter::from_fn(move || memory.try_charge(1)).collect::<Vec<Charge>>()
        };
        let mut first = take_all(1);
        let others: Vec<Vec<Charge>> = (2..=5).map(take_all).collect();
        let counts: Vec<usize> = others.iter().map(Vec::len).collect();
        assert_eq!((first.len(), &counts[..]), (500, &[250, 125, 62, 31][..]));
        // What the first gives back goes to the others.
        first.truncate(300);
        assert!(budget.of_user(1).try_charge(1).is_none());
        let mut next = budget.of_user(6).queue(100);
        assert!(granted(&mut next).is_some());
        let rest = 1000 - budget.lock().used;
        let root = budget.of_user(0);
        assert!(root.try_charge(rest + ROOT_RESERVE_BYTES).is_some());
        assert!(root.try_charge(rest + ROOT_RESERVE_BYTES + 1).is_none());
    }

    #[test]
    fn who_waits_gets_what_becomes_free_in_turns() {
        let budget = budget(1000, 100);
        let (one, other) = (budget.of_user(1), budget.of_user(2));
        let (of_one, of_other) = (one.try_charge(100).unwrap(), other.try_charge(100).unwrap());
        let (mut first, mut second) = (one.queue(60), one.queue(40));
        let mut left = one.queue(1);
        let mut third = other.queue(100);
        assert!(granted(&mut first).is_none());
        drop(of_one);
        let first = granted(&mut first).expect("there is room for the first");
        let second = granted(&mut second).expect("and for the second");
        assert!(granted(&mut left).is_none() && granted(&mut third).is_none());
        drop(left);
        drop((first, second, of_other));
        assert!(granted(&mut third).is_some());
        assert_eq!(budget.lock().used, 0, "the one that has left holds nothing");
    }

    #[test]
    fn an_answer_in_memory_is_charged_whatever_the_limit() {
        let budget = budget(1000, 100);
        let memory = budget.of_user(1);
        let mut read = memory.try_charge(100).unwrap();
        let frame = read.split(30);
        assert_eq!((read.bytes, frame.bytes, budget.lock().used), (70, 30, 100));
        let long = read.split(90);
        assert_eq!((read.bytes, long.bytes, budget.lock().used), (0, 90, 120));
        assert!(memory.try_charge(1).is_none(), "nothing new");
        drop((read, frame, long));
        assert_eq!(budget.lock().used, 0);
    }
}
