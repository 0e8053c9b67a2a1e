//! What a pending execution waits for.

use escher_client::{QueuePosition, WaitReason};

/// Returns what an execution waits for, to be shown behind "waiting:" and the like.
pub(crate) fn wait_reason(reason: WaitReason) -> String {
    match reason {
        WaitReason::Slot(Some(QueuePosition {
            running,
            max_running,
            ahead,
        })) => format!("{running} of {max_running} running, {ahead} ahead"),
        WaitReason::Slot(None) => "as many commands run as may at once".to_owned(),
        WaitReason::Launcher => "escherd has no launcher".to_owned(),
    }
}
