//! Checks for the system calls that starting and ending commands needs. Each check tries the call:
//! kernel versions prove little, because distributions backport system calls and sandboxes block
//! them.

use std::io;

use nix::unistd::Pid;

use crate::sys;

/// Tries pidfd_open(2), Linux 5.3, without which a signal might reach another process than the
/// intended.
///
/// # Errors
/// The kernel's.
pub fn try_pidfd_open() -> io::Result<()> {
    sys::process::open_pidfd(Pid::this()).map(drop)
}

/// Tries close_range(2) with its flag for close-on-exec, Linux 5.11, by which a command inherits no
/// descriptor but its three.
///
/// # Errors
/// The kernel's.
pub fn try_close_range() -> io::Result<()> {
    sys::process::probe_close_range()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_supported() {
        try_pidfd_open().unwrap();
        try_close_range().unwrap();
    }
}
