//! The table of open connections, which keeps their number within limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use escher_protocol::{ApiError, ErrorCode};

use super::metrics::ServerMetrics;
use crate::config::ConnectionLimits;
use crate::host::fd_budget::ROOT_RESERVE;

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
