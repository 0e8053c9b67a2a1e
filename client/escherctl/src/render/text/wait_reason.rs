//! What a pending execution waits for.

use escher_client::WaitReason;

/// Returns what an execution waits for, to be shown behind "waiting:" and the like.
pub(crate) fn wait_reason(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Slot => "as many commands run as may at once",
        WaitReason::Launcher => "escherd has no launcher",
    }
}
