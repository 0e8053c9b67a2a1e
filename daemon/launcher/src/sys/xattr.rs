//! Extended attributes of open files (xattr(7)).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Reads an attribute into `buffer` and returns its length (fgetxattr(2)).
///
/// # Errors
/// Those of fgetxattr(2): `ENODATA` without the attribute, `ENOTSUP` where the file system has none
/// of its kind, `ERANGE` if it is longer than the buffer.
pub(crate) fn get(file: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the name ends with a zero byte, and the kernel writes at most `length` bytes to the
    // buffer; both outlive the call. The descriptor is open, since it is borrowed.
    let read = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), start, length) };
    // Negative for errors alone.
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Sets an attribute, whether it exists or not (fsetxattr(2)).
///
/// # Errors
/// Those of fsetxattr(2): `ENOTSUP` where the file system has none of its kind.
pub(crate) fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    let (start, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: the name ends with a zero byte, and the kernel reads `length` bytes of the value; both
    // outlive the call. The descriptor is open, since it is borrowed.
    match unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), start, length, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
