//! Descriptors that are known only by number, and what the kernel says of a pipe.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that is known only by its number.
///
/// # Safety
/// The descriptor must be open, and nothing else may own it. `os::socket_activation`, the only
/// caller, gets the number from systemd.
pub(crate) unsafe fn adopt_descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: the caller guarantees both.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Closes all descriptors from this number on (close_range(2)).
///
/// # Errors
/// Those of close_range(2): `ENOSYS` before Linux 5.9, `EPERM` in a sandbox.
///
/// # Safety
/// Nothing may own any of them. `launcher::control_from_stdin`, the only caller, passes this on to
/// the program's `main`.
pub(crate) unsafe fn close_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes three integers; the caller guarantees that nothing owns the descriptors.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns how many bytes a pipe holds (`FIONREAD`, pipe(7)).
///
/// # Errors
/// Those of ioctl(2). None is possible for a pipe.
pub(crate) fn bytes_in_pipe(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: this request writes one integer, which outlives the call.
    match unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) } {
        0 => Ok(usize::try_from(count).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}
