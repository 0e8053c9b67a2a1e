//! Warnings about refused connections. A client can cause refusals as fast as it connects, so there is
//! one line for the first, and then at most one for each user and [`WINDOW`], with their number.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

/// Time that one line stands for.
const WINDOW: Duration = Duration::from_secs(10);

/// Reports refusals. Clones share their windows.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusalLog {
    /// The refusals in each user's present window; `None`: of peers that are not known.
    windows: Arc<Mutex<HashMap<Option<u32>, u64>>>,
}

impl RefusalLog {
    /// Reports that a connection of the user `uid` was refused, or could not be accepted.
    pub(super) fn report(&self, uid: Option<u32>, reason: &impl Display) {
        if !self.count(uid) {
            return;
        }
        warn!(uid, %reason, "a connection was refused");
        let log = self.clone();
        // Ends with the first window without a refusal.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WINDOW).await;
                let Some(count) = log.close_window(uid) else {
                    return;
                };
                let seconds = WINDOW.as_secs();
                warn!(
                    uid,
                    count, "more connections were refused in {seconds} seconds"
                );
            }
        });
    }

    /// Counts a refusal. Returns whether it begins a window, and has to be reported at once.
    fn count(&self, uid: Option<u32>) -> bool {
        let mut windows = self.lock();
        match windows.get_mut(&uid) {
            Some(count) => {
                *count += 1;
                false
            }
            None => windows.insert(uid, 0).is_none(),
        }
    }

    /// Returns the number of refusals in a window that has passed, which the next one follows; `None`
    /// if there were none, and none follows.
    fn close_window(&self, uid: Option<u32>) -> Option<u64> {
        let mut windows = self.lock();
        let count = std::mem::take(windows.get_mut(&uid)?);
        if count == 0 {
            windows.remove(&uid);
            return None;
        }
        Some(count)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<u32>, u64>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_for_each_user_and_window() {
        let log = RefusalLog::default();
        assert!(log.count(Some(1)), "the first is reported at once");
        for _ in 0..1000 {
            assert!(!log.count(Some(1)));
        }
        assert!(
            log.count(Some(2)) && log.count(None),
            "others have their own"
        );
        assert_eq!(log.close_window(Some(1)), Some(1000));
        assert!(!log.count(Some(1)));
        assert_eq!(log.close_window(Some(1)), Some(1));
        for uid in [Some(1), Some(2), None] {
            assert_eq!(log.close_window(uid), None);
        }
        assert!(
            log.lock().is_empty(),
            "nothing is kept of users who have stopped"
        );
    }
}
