//! Whether the kernel has the system calls that commands are started and ended with. They are tried: versions of
//! kernels say little, for distributions bring things to old ones, and sandboxes take them away.

use std::io;

use nix::unistd::Pid;

use crate::sys;

/// pidfd_open(2), Linux 5.3: by it signals reach whom they are meant for.
///
/// # Errors
/// What the kernel says to it.
pub fn try_pidfd_open() -> io::Result<()> {
    sys::process::open_pidfd(Pid::this()).map(drop)
}

/// close_range(2), Linux 5.11 with its flag for close-on-exec: a command gets three descriptors and no other.
///
/// # Errors
/// What the kernel says to it.
pub fn try_close_range() -> io::Result<()> {
    sys::process::mark_no_range()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_commands_here_is_there() {
        try_pidfd_open().unwrap();
        try_close_range().unwrap();
    }
}
