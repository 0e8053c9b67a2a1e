//! The table of open connections, which keeps their number within limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use escher_protocol::{ApiError, ErrorCode};

use super::metrics::ServerMetrics;
use crate::config::ConnectionLimits;
use crate::host::fd_budget::ROOT_RESERVE;

/// The last tenth of the connections is shared equally by users, so that no few of them take all.
const SHARED_PART: usize = 10;

/// Counts the open connections.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    open: Mutex<OpenConnections>,
    metrics: ServerMetrics,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    by_uid: HashMap<u32, usize>,
}

/// The slot of an open connection in the table, freed when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    table: Arc<ConnectionTable>,
    uid: u32,
}

impl ConnectionTable {
    /// Creates a table without connections, which counts in `metrics`.
    pub(super) fn new(metrics: ServerMetrics) -> Self {
        ConnectionTable {
            open: Mutex::default(),
            metrics,
        }
    }

    /// Counts a connection that is refused.
    pub(super) fn count_refused(&self) {
        self.metrics.count_refused();
    }

    /// Takes a slot for a connection of the user `uid`.
    ///
    /// # Errors
    /// `too-many-connections`.
    pub(super) fn take_slot(
        self: &Arc<Self>,
        limits: ConnectionLimits,
        uid: u32,
    ) -> Result<ConnectionSlot, ApiError> {
        let ConnectionLimits {
            max_connections,
            max_connections_per_user,
        } = limits;
        let mut open = self
            .open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let of_user = open.by_uid.get(&uid).copied().unwrap_or(0);
        let (max_total, max_of_user) = match uid {
            0 => (max_connections + ROOT_RESERVE, usize::MAX),
            _ => (max_connections, max_connections_per_user),
        };
        if of_user >= max_of_user {
            let message = format!("this user has {max_of_user} connections, which is the maximum");
            return Err(too_many(message));
        }
        if uid != 0 && !open.leaves_a_share(max_connections, of_user) {
            let message = format!(
                "escherd has {} connections; the last ones are for users with fewer than this one's {of_user}",
                open.total
            );
            return Err(too_many(message));
        }
        if open.total >= max_total {
            let message = format!("escherd has {max_total} connections, which is the maximum");
            return Err(too_many(message));
        }
        open.total += 1;
        open.by_uid.insert(uid, of_user + 1);
        self.metrics.count_opened();
        Ok(ConnectionSlot {
            table: self.clone(),
            uid,
        })
    }
}

impl OpenConnections {
    /// Returns whether a user with `of_user` connections may have another. In the last tenth of all, each of the
    /// users who have connections may have as many as the others, and at least one.
    fn leaves_a_share(&self, max_connections: usize, of_user: usize) -> bool {
        let shared = max_connections / SHARED_PART;
        let users = self.by_uid.len() + usize::from(of_user == 0);
        self.total < max_connections - shared || of_user < (shared / users).max(1)
    }
}

fn too_many(message: String) -> ApiError {
    ApiError::new(ErrorCode::TOO_MANY_CONNECTIONS, message)
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let open = self.table.open.lock();
        let mut open = open.unwrap_or_else(std::sync::PoisonError::into_inner);
        open.total -= 1;
        self.table.metrics.count_closed();
        if let Some(count) = open.by_uid.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_users_do_not_take_all_connections() {
        let table = Arc::new(ConnectionTable::new(ServerMetrics::default()));
        let limits = ConnectionLimits {
            max_connections: 100,
            max_connections_per_user: 50,
        };
        let take_slot = |uid| table.take_slot(limits, uid);
        let take_all = |uid| std::iter::from_fn(|| take_slot(uid).ok()).collect::<Vec<_>>();
        let (first, second) = (take_all(1), take_all(2));
        assert_eq!((first.len(), second.len()), (50, 40));
        // Of the last ten, with three users and then with four.
        let third = take_all(3);
        assert_eq!(third.len(), 3);
        let fourth = take_all(4);
        assert_eq!(fourth.len(), 2);
        assert!(take_slot(3).is_err() && take_slot(1).is_err());
        // However many they are, each has one, as long as there are any.
        let others: Vec<_> = (5..).map_while(|uid| take_slot(uid).ok()).collect();
        assert_eq!(others.len(), 5);
        assert!(take_slot(0).is_ok(), "root has a reserve");
    }

    #[test]
    fn the_limits_hold_and_root_has_a_reserve() {
        let table = Arc::new(ConnectionTable::new(ServerMetrics::default()));
        let limits = ConnectionLimits {
            max_connections: 3,
            max_connections_per_user: 2,
        };
        let take_slot = |uid| table.take_slot(limits, uid);
        let first = take_slot(1000).unwrap();
        let _second = take_slot(1000).unwrap();
        assert!(take_slot(1000).is_err(), "over the user's limit");
        let _third = take_slot(1001).unwrap();
        assert!(take_slot(1002).is_err(), "over the limit of all");
        let reserve: Vec<ConnectionSlot> =
            (0..ROOT_RESERVE).map(|_| take_slot(0).unwrap()).collect();
        assert!(take_slot(0).is_err(), "the reserve has an end");
        drop((first, reserve));
        assert!(take_slot(1002).is_ok());
    }
}
