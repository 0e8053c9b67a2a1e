//! Failures of system calls that do not fail on a working system.

use std::io;

use nix::errno::Errno;

/// A system call has failed that no configuration or input can make fail.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct SystemError {
    action: &'static str,
    source: io::Error,
}

/// Adds to a failed system call what it was for.
pub(crate) trait DuringAction<T> {
    /// Turns the error into a [`SystemError`]; `action` completes "cannot ...".
    fn during(self, action: &'static str) -> Result<T, SystemError>;
}

impl<T> DuringAction<T> for io::Result<T> {
    fn during(self, action: &'static str) -> Result<T, SystemError> {
        self.map_err(|source| SystemError { action, source })
    }
}

impl<T> DuringAction<T> for Result<T, Errno> {
    fn during(self, action: &'static str) -> Result<T, SystemError> {
        self.map_err(io::Error::from).during(action)
    }
}
