//! Whether there is input that nobody reads.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until standard input is a pipe with data in it. Never returns if it is something else, or ends without data.
/// Reads nothing.
pub(crate) async fn has_piped_data() {
    let input = io::stdin();
    if is_pipe(&input) {
        if has_data(&input) {
            return;
        }
        #[expect(
            deprecated,
            reason = "the replacement is unsafe, for types whose descriptor may change or close; this one does neither"
        )]
        let readiness = AsyncFd::with_interest(io::stdin(), Interest::READABLE);
        if let Ok(readiness) = readiness
            && readiness.readable().await.is_ok()
            && has_data(&input)
        {
            return;
        }
    }
    std::future::pending().await
}

fn is_pipe(input: impl AsFd) -> bool {
    fstat(input).is_ok_and(|status| {
        let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK
    })
}

/// Whether there is something to read; the end of the input is nothing.
fn has_data(input: impl AsFd) -> bool {
    let mut polled = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && polled[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLIN))
}
