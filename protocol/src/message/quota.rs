//! What a user takes of escherd, and may take.

use serde::{Deserialize, Serialize};

use crate::user::User;

/// What one user takes of the queue, the slots and the disk of the logs, and may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The user. An execution is charged to the user who has submitted it.
    pub user: User,
    /// Number of waiting executions.
    pub pending: u64,
    /// Most of them.
    pub max_pending: u64,
    /// Bytes of their requests.
    pub pending_bytes: u64,
    /// Most of them.
    pub max_pending_bytes: u64,
    /// Number of running executions, those that are about to start included.
    pub running: u64,
    /// Most of them. While other users wait it may be less.
    pub max_running: u64,
    /// Bytes of the disk of the logs that the user's logs take, with the indexes: those of finished executions as
    /// they are, and those of running ones as far as they may grow at the moment.
    pub log_disk_bytes: u64,
    /// Most of them; `u64::MAX` where the size of the disk is not known.
    pub max_log_disk_bytes: u64,
    /// What the user has in the history.
    pub history: HistoryQuota,
}

/// What a user has in the history, and its share of that: the limit, divided by the number of users who
/// have something there. Nothing is removed to keep a limit from a user who has no more than its share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuota {
    /// Number of finished executions.
    pub finished: u64,
    /// The share of them.
    pub finished_share: u64,
    /// Bytes of their logs, with the indexes.
    pub log_bytes: u64,
    /// The share of them.
    pub log_bytes_share: u64,
}
