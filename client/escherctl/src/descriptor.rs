//! The process's own standard descriptors, without a buffer in between.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A copy of a standard descriptor that reads and writes straight through.
pub(crate) fn direct(descriptor: impl AsFd) -> io::Result<File> {
    Ok(File::from(descriptor.as_fd().try_clone_to_owned()?))
}

/// Reads what is there, once something is. The descriptor may have been made non-blocking by another
/// process that shares it.
pub(crate) fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) => recover(error, file.as_fd(), PollFlags::POLLIN)?,
            read => return read,
        }
    }
}

/// Writes all of `bytes`, waiting for room where needed.
pub(crate) fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) => recover(error, file.as_fd(), PollFlags::POLLOUT)?,
        }
    }
    Ok(())
}

/// Returns when the call that failed with `error` is worth repeating.
fn recover(error: io::Error, descriptor: BorrowedFd<'_>, until: PollFlags) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => {
            match poll(&mut [PollFd::new(descriptor, until)], PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        _ => Err(error),
    }
}
