//! What a user takes of the queue, the slots, the disk of the logs and the history, and may take.

use serde::Serialize;

use super::object::line;
use crate::message::Quota;

/// Returns the object for a user.
pub fn quota(quota: &Quota) -> String {
    #[derive(Serialize)]
    struct Line {
        user: String,
        uid: u32,
        pending: u64,
        max_pending: u64,
        pending_bytes: u64,
        max_pending_bytes: u64,
        running: u64,
        max_running: u64,
        log_disk_bytes: u64,
        max_log_disk_bytes: u64,
        finished: u64,
        finished_share: u64,
        log_bytes: u64,
        log_bytes_share: u64,
    }
    line(&Line {
        user: quota.user.to_string(),
        uid: quota.user.uid,
        pending: quota.pending,
        max_pending: quota.max_pending,
        pending_bytes: quota.pending_bytes,
        max_pending_bytes: quota.max_pending_bytes,
        running: quota.running,
        max_running: quota.max_running,
        log_disk_bytes: quota.log_disk_bytes,
        max_log_disk_bytes: quota.max_log_disk_bytes,
        finished: quota.history.finished,
        finished_share: quota.history.finished_share,
        log_bytes: quota.history.log_bytes,
        log_bytes_share: quota.history.log_bytes_share,
    })
}
