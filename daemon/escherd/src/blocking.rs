//! Work that blocks (the store, logs, the user database, checks of the host), off the event loop.
//!
//! Every kind of work has a [`BlockingPool`] of its own: a number of the runtime's threads, given to
//! users in turns. Together the pools have far fewer than the runtime's 512, so none of them waits
//! for another, and work that hangs delays only its own kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinError;

use crate::turns::Turns;

/// A number of threads for one kind of work. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct BlockingPool {
    turns: Turns,
}

/// Whether nobody waits for the result of some work any more, because the client has disconnected.
/// Long work looks between its blocks, and ends early.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// Returns whether the work was abandoned.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns one for a test, and what sets it when it is dropped.
    #[cfg(test)]
    pub(crate) fn of_a_test() -> (Self, impl Drop) {
        let abandoned = Abandoned::default();
        (abandoned.clone(), Abandon(abandoned))
    }
}

/// Abandons its work when it is dropped.
struct Abandon(Abandoned);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl BlockingPool {
    /// Creates a pool of at most `threads` threads.
    pub(crate) fn new(threads: usize) -> Self {
        BlockingPool {
            turns: Turns::new(threads),
        }
    }

    /// Runs `work` for the user `uid` once it is that user's turn. The turn ends with the work and
    /// not with the wait for it: a client that disconnects frees no thread that is still busy.
    ///
    /// # Errors
    /// When the work panics, or the runtime ends.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        uid: u32,
        work: impl FnOnce(&Abandoned) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.turns.take(uid).await;
        let abandoned = Abandoned::default();
        let abandon = Abandon(abandoned.clone());
        let result = tokio::task::spawn_blocking(move || {
            let result = work(&abandoned);
            drop(turn);
            result
        })
        .await;
        drop(abandon);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    #[tokio::test]
    async fn abandoned_work_keeps_its_turn_until_it_ends_and_learns_of_it() {
        let pool = BlockingPool::new(1);
        let (started, has_started) = oneshot::channel();
        let (go_on, gate) = mpsc::channel::<()>();
        let (ended, has_ended) = oneshot::channel();
        let work = tokio::spawn({
            let pool = pool.clone();
            async move {
                let work = move |abandoned: &Abandoned| {
                    let _ = started.send(());
                    let _ = gate.recv();
                    let _ = ended.send(abandoned.is_set());
                };
                pool.run(1, work).await
            }
        });
        has_started.await.unwrap();
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        let mut next = pool.turns.queue(2);
        let at_once = std::future::poll_fn(|context| std::task::Poll::Ready(next.poll(context)));
        assert!(at_once.await.is_pending(), "the thread is still busy");
        go_on.send(()).unwrap();
        assert!(has_ended.await.unwrap(), "it is told between its blocks");
        std::future::poll_fn(|context| next.poll(context)).await;
    }
}
