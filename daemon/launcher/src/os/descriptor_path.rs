//! Paths to open files.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Returns a path to the file behind `descriptor`. It is short, whatever the file's own path: the
/// address of a Unix socket has 108 bytes at most (unix(7)).
pub(crate) fn descriptor_path(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}
