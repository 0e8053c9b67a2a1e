//! Waiting for descriptors, with a deadline.
//!
//! A program that reaps children has a handler for SIGCHLD, which interrupts poll(2) and, on sockets
//! with a timeout, recv(2) (signal(7)). The functions here go on after that.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a single event may take. A test that waits longer has failed.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The same for a whole test, and for what moves gigabytes or starts thousands of commands.
pub const LONG_DEADLINE: Duration = Duration::from_secs(900);

/// Waits until `descriptor` is readable (a pidfd: until its process has exited) or hung up. False after
/// [`DEADLINE`].
#[must_use]
pub fn readable(descriptor: impl AsFd) -> bool {
    readable_within(descriptor, DEADLINE)
}

/// The same with another deadline.
#[must_use]
pub fn readable_within(descriptor: impl AsFd, deadline: Duration) -> bool {
    poll_within(descriptor, PollFlags::POLLIN, deadline)
}

fn poll_within(descriptor: impl AsFd, events: PollFlags, deadline: Duration) -> bool {
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(descriptor.as_fd(), events)];
        match poll(&mut polled, left) {
            Err(Errno::EINTR) => {}
            ready => return ready.expect("poll(2)") > 0,
        }
    }
}

/// Waits until a file of the kernel reports a change since it was read (`POLLPRI`, as `cgroup.events` does). False
/// after [`DEADLINE`].
#[must_use]
pub fn changed(file: impl AsFd) -> bool {
    poll_within(file, PollFlags::POLLPRI, DEADLINE)
}

/// Receives a datagram; fails with [`ErrorKind::TimedOut`] after [`DEADLINE`].
///
/// # Errors
/// Those of recv(2).
pub fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<usize> {
    if !readable(socket) {
        return Err(ErrorKind::TimedOut.into());
    }
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// Repeats `attempt` with a longer timeout each time until it returns a value.
///
/// For commands that have to get somewhere before their timeout ends them: where a slow machine has
/// not let them, `attempt` returns `None`, and nothing is concluded from it.
///
/// # Panics
/// When even the longest timeout, a minute, was too short.
pub fn with_growing_timeout<T>(mut attempt: impl FnMut(Duration) -> Option<T>) -> T {
    [500, 2_000, 8_000, 60_000]
        .map(Duration::from_millis)
        .into_iter()
        .find_map(&mut attempt)
        .expect("a minute is enough for any machine")
}
