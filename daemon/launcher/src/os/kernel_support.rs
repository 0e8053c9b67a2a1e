//! Checks for the system calls that starting and ending commands needs. Each check tries the call:
//! kernel versions prove little, because distributions backport system calls and sandboxes block
//! them.

use std::fmt;
use std::io;

use nix::unistd::Pid;

use crate::sys;

/// The error for a kernel on which escher cannot start commands safely.
#[derive(Debug)]
pub struct UnsupportedKernel {
    call: &'static str,
    error: io::Error,
}

impl fmt::Display for UnsupportedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnsupportedKernel { call, error } = self;
        write!(
            f,
            "this kernel, or a sandbox around escher, does not provide {call}: {error}; \
             Linux 5.11 or newer is needed"
        )
    }
}

impl std::error::Error for UnsupportedKernel {}

/// Tries all of them.
///
/// # Errors
/// The first that fails.
pub fn ensure_supported() -> Result<(), UnsupportedKernel> {
    let unsupported = |call| move |error| UnsupportedKernel { call, error };
    try_pidfd_open().map_err(unsupported("pidfd_open(2)"))?;
    try_close_range().map_err(unsupported("close_range(2)"))
}

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
        ensure_supported().unwrap();
    }
}
