//! Waiting with a deadline.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long anything may take. A test that waits so long has failed; below it nothing depends on
/// time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Whether `descriptor` becomes readable (a pidfd: whether its process ends) before the deadline.
pub(crate) fn readable(descriptor: impl AsFd) -> bool {
    let until = Instant::now() + DEADLINE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut one = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut one, left) {
            Err(Errno::EINTR) => {}
            count => return count.unwrap() > 0,
        }
    }
}
