//! Deadlines for poll(2).

use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// How long after SIGKILL a process may take to end before it counts as unkillable.
pub(crate) const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);

/// Returns the timeout with which poll(2) waits until `deadline`; without one it waits without end.
/// Rounded up, so that the deadline has passed when poll(2) returns.
pub(crate) fn poll_timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
