//! Ready shims, and the launches that wait for one.

use std::collections::VecDeque;
use std::time::Duration;

use escher_launcher::ipc::wire::{Assignment, ToShim};
use escher_protocol::ExecutionId;
use tokio::time::Instant;

/// How long surplus shims are kept after a burst of launches.
const KEEP_SURPLUS: Duration = Duration::from_secs(10);

/// A launch that waits for a shim.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WaitingLaunch {
    pub(super) assignment: Box<Assignment>,
    /// Messages for its shim, sent by the scheduler meanwhile.
    pub(super) messages: Vec<ToShim>,
}

impl WaitingLaunch {
    pub(super) fn new(assignment: Box<Assignment>) -> Self {
        WaitingLaunch {
            assignment,
            messages: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> ExecutionId {
        self.assignment.spec.id
    }
}

/// Decides which shim takes which launch, how many shims to request, and which to drop. `S` is a
/// ready shim.
#[derive(Debug)]
pub(super) struct ShimPool<S> {
    /// How many shims are kept ready (the setting `daemon.warm_shims`).
    warm_shims: usize,
    /// The last one is used first: its memory is the most likely to be in the cache.
    ready: Vec<S>,
    /// Shims that the launcher was asked for and has not sent yet.
    requested: u32,
    waiting: VecDeque<WaitingLaunch>,
    trim_at: Option<Instant>,
}

impl<S> ShimPool<S> {
    pub(super) fn new(warm_shims: usize) -> Self {
        ShimPool {
            warm_shims,
            ready: Vec::new(),
            requested: 0,
            waiting: VecDeque::new(),
            trim_at: None,
        }
    }

    /// Adds a launch behind those that wait.
    pub(super) fn queue_launch(&mut self, launch: WaitingLaunch) {
        self.waiting.push_back(launch);
    }

    /// Puts back a launch whose shim has not seen it, ahead of those that wait.
    pub(super) fn requeue_launch(&mut self, launch: WaitingLaunch) {
        self.waiting.push_front(launch);
    }

    /// Returns the launch of an execution while it waits.
    pub(super) fn waiting_launch_mut(&mut self, id: ExecutionId) -> Option<&mut WaitingLaunch> {
        self.waiting.iter_mut().find(|launch| launch.id() == id)
    }

    /// Gives up the launch of an execution if it waits. Returns whether it did: otherwise a shim has it.
    pub(super) fn withdraw(&mut self, id: ExecutionId) -> bool {
        let count = self.waiting.len();
        self.waiting.retain(|launch| launch.id() != id);
        self.waiting.len() < count
    }

    /// Takes the oldest waiting launch and a shim for it, if there are both.
    pub(super) fn next_launch(&mut self) -> Option<(S, WaitingLaunch)> {
        if self.waiting.is_empty() {
            return None;
        }
        let shim = self.ready.pop()?;
        let launch = self.waiting.pop_front()?;
        Some((shim, launch))
    }

    /// Adds a shim that the launcher has forked.
    pub(super) fn on_forked(&mut self, shim: S) {
        self.requested = self.requested.saturating_sub(1);
        self.ready.push(shim);
    }

    /// Handles the failure of a fork: one shim fewer will come.
    pub(super) fn on_fork_failed(&mut self) {
        self.requested = self.requested.saturating_sub(1);
    }

    /// Handles the loss of the launcher, which sends no more shims.
    pub(super) fn on_launcher_disconnected(&mut self) {
        self.requested = 0;
    }

    /// Adds a shim whose command is over.
    pub(super) fn on_returned(&mut self, shim: S) {
        self.ready.push(shim);
    }

    /// Removes the first ready shim that matches.
    pub(super) fn remove_ready(&mut self, matches: impl Fn(&S) -> bool) -> Option<S> {
        let index = self.ready.iter().position(matches)?;
        Some(self.ready.swap_remove(index))
    }

    /// Returns how many more shims to request from the launcher.
    pub(super) fn shims_to_request(&self) -> u32 {
        self.missing().saturating_sub(self.requested)
    }

    /// Handles that `count` more shims were requested.
    pub(super) fn on_requested(&mut self, count: u32) {
        self.requested = self.requested.saturating_add(count);
    }

    fn missing(&self) -> u32 {
        let wanted = self.warm_shims + self.waiting.len();
        u32::try_from(wanted.saturating_sub(self.ready.len())).unwrap_or(u32::MAX)
    }

    /// Whether [`ShimPool::schedule_trim`] is to be called: there are surplus shims, and no time is
    /// set to trim them.
    pub(super) fn needs_trim(&self) -> bool {
        self.trim_at.is_none() && self.ready.len() > self.warm_shims
    }

    /// Sets the time of the next [`ShimPool::trim`].
    pub(super) fn schedule_trim(&mut self, now: Instant) {
        self.trim_at = Some(now + KEEP_SURPLUS);
    }

    /// Returns when to call [`ShimPool::trim`].
    pub(super) fn trim_at(&self) -> Option<Instant> {
        self.trim_at
    }

    /// Removes the surplus shims. Dropping one ends it.
    pub(super) fn trim(&mut self) -> impl Iterator<Item = S> {
        self.trim_at = None;
        let kept = self.warm_shims.min(self.ready.len());
        self.ready.drain(kept..)
    }

    /// Drops all ready shims.
    pub(super) fn clear_ready(&mut self) {
        self.ready.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::shim::testbed::assignment;

    fn launch(byte: u8) -> WaitingLaunch {
        let id = ExecutionId::from_bytes([byte; 16]);
        WaitingLaunch::new(Box::new(assignment(id, "x".into())))
    }

    /// A pool that keeps `warm_shims` and has `ready`.
    fn pool(warm_shims: usize, ready: &[u32]) -> ShimPool<u32> {
        let mut pool = ShimPool::new(warm_shims);
        for shim in ready {
            pool.on_returned(*shim);
        }
        pool
    }

    #[test]
    fn requests_the_shims_that_are_neither_ready_nor_requested() {
        // kept, ready, waiting, requested before => requested now
        for (kept, ready, waiting, before, requested) in [
            (0, 0, 0, 0, 0),
            (2, 0, 0, 0, 2),
            (2, 1, 0, 0, 1),
            (2, 2, 0, 0, 0),
            (2, 3, 0, 0, 0),
            (0, 0, 3, 0, 3),
            (2, 0, 3, 0, 5),
            (2, 0, 3, 4, 1),
            (2, 0, 3, 5, 0),
            (2, 0, 0, 5, 0),
        ] {
            let mut pool = pool(kept, &vec![7; ready]);
            for _ in 0..waiting {
                pool.queue_launch(launch(1));
            }
            pool.on_requested(before);
            let case = (kept, ready, waiting, before);
            assert_eq!(pool.shims_to_request(), requested, "{case:?}");
            pool.on_requested(requested);
            assert_eq!(pool.shims_to_request(), 0, "{case:?}: not requested twice");
        }
    }

    #[test]
    fn requests_again_what_failed_or_was_lost_with_the_launcher() {
        let mut pool = pool(3, &[]);
        pool.on_requested(3);
        pool.on_forked(1);
        assert_eq!(pool.shims_to_request(), 0);
        pool.on_fork_failed();
        assert_eq!(pool.shims_to_request(), 1);
        pool.on_launcher_disconnected();
        assert_eq!(pool.shims_to_request(), 2);
        pool.on_fork_failed();
        pool.on_forked(2);
        assert_eq!(
            pool.shims_to_request(),
            1,
            "answers to no request are not counted"
        );
    }

    #[test]
    fn launches_in_order_on_the_shim_that_was_used_last() {
        let mut pool = pool(0, &[1, 2]);
        assert_eq!(pool.next_launch(), None, "nothing to launch");
        for byte in [1, 2, 3] {
            pool.queue_launch(launch(byte));
        }
        assert_eq!(pool.next_launch(), Some((2, launch(1))));
        assert_eq!(pool.next_launch(), Some((1, launch(2))));
        assert_eq!(pool.next_launch(), None, "no shim");
        pool.on_forked(3);
        assert_eq!(pool.next_launch(), Some((3, launch(3))));
        assert_eq!(pool.next_launch(), None);
    }

    #[test]
    fn repeats_a_failed_launch_before_the_others() {
        let mut pool = pool(0, &[1, 2]);
        pool.queue_launch(launch(1));
        pool.queue_launch(launch(2));
        let (_, failed) = pool.next_launch().unwrap();
        pool.requeue_launch(failed);
        assert_eq!(pool.next_launch(), Some((1, launch(1))));
    }

    #[test]
    fn keeps_messages_for_waiting_launches_only() {
        let mut pool = pool(0, &[]);
        pool.queue_launch(launch(1));
        pool.queue_launch(launch(2));
        for message in [ToShim::Pause, ToShim::Resume] {
            let waiting = pool.waiting_launch_mut(launch(2).id()).unwrap();
            waiting.messages.push(message);
        }
        assert!(pool.waiting_launch_mut(launch(3).id()).is_none());
        pool.on_returned(1);
        pool.on_returned(2);
        assert_eq!(pool.next_launch().unwrap().1.messages, []);
        assert!(pool.waiting_launch_mut(launch(1).id()).is_none());
        let messages = pool.next_launch().unwrap().1.messages;
        assert_eq!(messages, [ToShim::Pause, ToShim::Resume]);
    }

    #[test]
    fn withdraws_waiting_launches_only() {
        let mut pool = pool(0, &[]);
        for byte in [1, 2, 3] {
            pool.queue_launch(launch(byte));
        }
        assert!(pool.withdraw(launch(2).id()));
        assert!(!pool.withdraw(launch(2).id()), "it is not there any more");
        assert_eq!(pool.shims_to_request(), 2, "none for what was withdrawn");
        for shim in [7, 8, 9] {
            pool.on_returned(shim);
        }
        assert_eq!(pool.next_launch(), Some((9, launch(1))));
        assert!(!pool.withdraw(launch(1).id()), "a shim has it");
        assert_eq!(pool.next_launch(), Some((8, launch(3))));
        assert_eq!(pool.next_launch(), None);
    }

    #[test]
    fn trims_surplus_shims_some_time_after_the_first_one() {
        let now = Instant::now();
        let mut pool = pool(2, &[1, 2]);
        assert!(!pool.needs_trim(), "no surplus");
        pool.on_returned(3);
        assert!(pool.needs_trim());
        pool.schedule_trim(now);
        pool.on_returned(4);
        assert!(!pool.needs_trim(), "a time is set");
        assert_eq!(pool.trim_at(), Some(now + KEEP_SURPLUS));
        assert_eq!(pool.trim().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(pool.trim_at(), None);
        pool.queue_launch(launch(1));
        assert!(pool.next_launch().is_some());
        assert_eq!(pool.trim().count(), 0, "fewer than are kept");
        assert!(!pool.needs_trim());
    }

    #[test]
    fn removes_a_ready_shim() {
        let mut pool = pool(0, &[1, 2, 3]);
        assert_eq!(pool.remove_ready(|shim| *shim == 4), None);
        assert_eq!(pool.remove_ready(|shim| *shim == 1), Some(1));
        assert_eq!(pool.remove_ready(|shim| *shim == 1), None);
        assert_eq!(pool.shims_to_request(), 0);
        pool.clear_ready();
        assert_eq!(pool.remove_ready(|_| true), None);
    }
}
