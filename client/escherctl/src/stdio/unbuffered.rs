//! Standard descriptors without a buffer.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Duplicates a standard descriptor as an unbuffered file.
pub(crate) fn duplicate(descriptor: impl AsFd) -> io::Result<File> {
    Ok(File::from(descriptor.as_fd().try_clone_to_owned()?))
}

/// Waits for input and reads it. The descriptor may be non-blocking: whether it is, is shared with
/// other processes.
pub(crate) fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) => wait_to_repeat(error, file.as_fd(), PollFlags::POLLIN)?,
            read => return read,
        }
    }
}

/// Writes all of `bytes`, also to a non-blocking descriptor: everything that escherctl prints goes
/// this way.
pub(crate) fn write_all(output: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(&output, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) => wait_to_repeat(error.into(), output.as_fd(), PollFlags::POLLOUT)?,
        }
    }
    Ok(())
}

/// Waits until the call that failed with `error` can be repeated; returns an error that is final.
fn wait_to_repeat(
    error: io::Error,
    descriptor: BorrowedFd<'_>,
    readiness: PollFlags,
) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => {
            match poll(&mut [PollFd::new(descriptor, readiness)], PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        _ => Err(error),
    }
}
