//! The reading end of a pipe to which a command writes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::sys::bytes_in_pipe;

/// A reading end that does not block. Another reader may take the bytes that poll(2) has reported:
/// a command can open its own pipe for reading (`/proc/self/fd/1`, proc_pid_fd(5)). Programs outside
/// the command can hold the writing end (`SCM_RIGHTS`, pidfd_getfd(2)), and write without end.
pub(super) struct OutputPipe(OwnedFd);

/// Result of [`OutputPipe::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipeRead {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// The pipe is empty.
    Nothing,
    /// No process has the writing end any more.
    Ended,
}

impl OutputPipe {
    /// Wraps a reading end.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // A flag of this end alone: the command's writes still block.
        fcntl(&descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(OutputPipe(descriptor))
    }

    /// Reads once, without waiting.
    pub(super) fn read(&self, buffer: &mut [u8]) -> PipeRead {
        match nix::unistd::read(&self.0, buffer) {
            Ok(0) => PipeRead::Ended,
            Ok(count) => PipeRead::Bytes(count),
            Err(Errno::EINTR | Errno::EAGAIN) => PipeRead::Nothing,
            Err(_) => PipeRead::Ended,
        }
    }

    /// Passes to `consume` as many bytes as are in the pipe now. What is written meanwhile is not
    /// read, so this ends whatever writers do.
    pub(super) fn read_buffered(&self, buffer: &mut [u8], mut consume: impl FnMut(&[u8])) {
        let mut left = bytes_in_pipe(self.0.as_fd()).unwrap_or(0);
        while left > 0 {
            let length = left.min(buffer.len());
            let PipeRead::Bytes(count) = self.read(&mut buffer[..length]) else {
                return;
            };
            consume(&buffer[..count]);
            left -= count;
        }
    }
}

impl AsFd for OutputPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, write};

    /// Such a reader used to leave the shim waiting in read(2), deaf to cancel and timeout.
    #[test]
    fn does_not_wait_for_bytes_that_another_reader_has_taken() {
        let (reading, _writing) = pipe().unwrap();
        let pipe = OutputPipe::new(reading).unwrap();
        assert_eq!(pipe.read(&mut [0; 8]), PipeRead::Nothing);
        pipe.read_buffered(&mut [0; 8], |_| panic!("nothing was written"));
    }

    /// A writer that is faster than the log used to hold the shim for ever.
    #[test]
    fn drains_what_is_there_and_not_what_is_written_meanwhile() {
        let (reading, writing) = pipe().unwrap();
        let pipe = OutputPipe::new(reading).unwrap();
        let mut before: Vec<u8> = (0..=255).collect();
        write(&writing, &before).unwrap();
        let mut drained = Vec::new();
        pipe.read_buffered(&mut [0; 100], |bytes| {
            drained.extend_from_slice(bytes);
            assert_eq!(write(&writing, bytes), Ok(bytes.len()));
        });
        assert_eq!(drained, before);
        before.resize(1000, 0);
        assert_eq!(pipe.read(&mut before), PipeRead::Bytes(256));
    }

    #[test]
    fn ends_with_its_last_writer() {
        let (reading, writing) = pipe().unwrap();
        let pipe = OutputPipe::new(reading).unwrap();
        write(&writing, b"last").unwrap();
        drop(writing);
        let mut buffer = [0; 8];
        assert_eq!(pipe.read(&mut buffer), PipeRead::Bytes(4));
        assert_eq!(pipe.read(&mut buffer), PipeRead::Ended);
    }
}
