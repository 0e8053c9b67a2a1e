//! Clients that wait for the same answer.

use tokio::sync::oneshot::Sender;

/// Fewest waiters that are added between two looks for those whose clients have gone.
const MIN_ADDED: usize = 16;

/// Adds a waiter. Those whose clients have gone do not pile up, and are looked for so rarely that a call costs the same
/// on average however many wait.
pub(super) fn add_waiter<T>(waiters: &mut Vec<Sender<T>>, waiter: Sender<T>) {
    if waiters.len() == waiters.capacity() {
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.reserve(waiters.len().max(MIN_ADDED));
    }
    waiters.push(waiter);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::channel;

    #[test]
    fn waiters_that_have_gone_do_not_pile_up() {
        let mut waiters = Vec::new();
        let staying: Vec<_> = (0..100)
            .map(|number| {
                let (waiter, answer) = channel();
                add_waiter(&mut waiters, waiter);
                for _ in 0..100 {
                    add_waiter(&mut waiters, channel().0);
                }
                (number, answer)
            })
            .collect();
        assert!(waiters.len() <= 4 * staying.len(), "{}", waiters.len());
        let alive = waiters.into_iter().filter(|waiter| !waiter.is_closed());
        for (waiter, number) in alive.zip(0..) {
            waiter.send(number).unwrap();
        }
        for (number, mut answer) in staying {
            assert_eq!(answer.try_recv(), Ok(number));
        }
    }
}
