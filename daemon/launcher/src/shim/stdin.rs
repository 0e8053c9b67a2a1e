//! The writing end of a command's standard input.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use escher_protocol::Blob;
use nix::errno::Errno;

use crate::ipc::wire::InputState;

/// Buffers input from escherd until the command reads it. escherd sends at most
/// [`INPUT_WINDOW`](crate::ipc::wire::INPUT_WINDOW) writes ahead, which bounds the buffer.
pub(super) struct StdinFeeder {
    /// `None` once either side has closed the input.
    pipe: Option<OwnedFd>,
    pending: VecDeque<PendingWrite>,
    /// As in [`InputState`].
    received_bytes: u64,
    /// As in [`InputState`].
    has_ended: bool,
    /// As in [`InputState`].
    is_closed: bool,
}

struct PendingWrite {
    data: Blob,
    written: usize,
    is_last: bool,
}

/// Result of writing to the pipe.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WriteProgress {
    /// Writes that were completed.
    pub(super) accepted: usize,
    /// Whether the command has closed its end.
    pub(super) is_closed: bool,
}

impl StdinFeeder {
    /// Wraps the pipe; `None` where standard input is `/dev/null`.
    pub(super) fn new(pipe: Option<OwnedFd>) -> Self {
        StdinFeeder {
            is_closed: pipe.is_none(),
            pipe,
            pending: VecDeque::new(),
            received_bytes: 0,
            has_ended: false,
        }
    }

    /// Returns the state for an escherd that adopts the execution.
    pub(super) fn state(&self) -> InputState {
        InputState {
            received_bytes: self.received_bytes,
            // At most `INPUT_WINDOW`.
            unaccepted: u32::try_from(self.pending.len()).unwrap_or(u32::MAX),
            has_ended: self.has_ended,
            is_closed: self.is_closed,
        }
    }

    /// Returns the pipe while there is something to write to it.
    pub(super) fn writable_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.pending.is_empty() {
            None
        } else {
            self.pipe.as_ref().map(AsFd::as_fd)
        }
    }

    /// Adds one write and writes as much as fits into the pipe.
    pub(super) fn push(&mut self, data: Blob, is_last: bool) -> WriteProgress {
        self.received_bytes += data.len() as u64;
        self.has_ended |= is_last;
        self.pending.push_back(PendingWrite {
            data,
            written: 0,
            is_last,
        });
        self.write_pending()
    }

    /// Writes as much as fits into the pipe.
    pub(super) fn write_pending(&mut self) -> WriteProgress {
        let mut progress = WriteProgress::default();
        while let Some(write) = self.pending.front_mut() {
            let Some(pipe) = &self.pipe else {
                progress.is_closed = true;
                self.pending.clear();
                break;
            };
            while write.written < write.data.len() {
                match nix::unistd::write(pipe, &write.data[write.written..]) {
                    Ok(count) => write.written += count,
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => return progress,
                    Err(_) => {
                        // EPIPE: the command has closed its end.
                        self.close();
                        progress.is_closed = true;
                        return progress;
                    }
                }
            }
            progress.accepted += 1;
            if write.is_last {
                self.drop_pipe();
                return progress;
            }
            self.pending.pop_front();
        }
        progress
    }

    /// Closes the input because the command does not read it any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.drop_pipe();
    }

    fn drop_pipe(&mut self) {
        self.pipe = None;
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, read};

    #[test]
    fn keeps_the_order_when_the_pipe_is_full() {
        let (reading, writing) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let mut input = StdinFeeder::new(Some(writing));
        let big: Vec<u8> = (0..150_000u32).map(|n| (n % 251) as u8).collect();
        let mut accepted = 0;
        for piece in big.chunks(50_000) {
            accepted += input.push(piece.into(), false).accepted;
        }
        assert!(accepted < 3 && input.writable_fd().is_some());
        let state = input.state();
        assert_eq!((state.received_bytes, state.has_ended), (150_000, false));
        assert_eq!(state.unaccepted as usize + accepted, 3);
        accepted += input.push(Blob::default(), true).accepted;
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match read(&reading, &mut buffer) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(Errno::EAGAIN) => accepted += input.write_pending().accepted,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((got, accepted), (big, 4));
        let end = InputState {
            received_bytes: 150_000,
            unaccepted: 0,
            has_ended: true,
            is_closed: false,
        };
        assert_eq!(input.state(), end);
    }

    #[test]
    fn discards_input_that_the_command_does_not_read() {
        let (reading, writing) = pipe2(OFlag::O_NONBLOCK).unwrap();
        drop(reading);
        let mut input = StdinFeeder::new(Some(writing));
        let closed = WriteProgress {
            accepted: 0,
            is_closed: true,
        };
        // SIGPIPE is ignored in tests and blocked in a shim.
        assert_eq!(input.push("x".into(), false), closed);
        assert_eq!(input.push("y".into(), false), closed);
        assert!(input.writable_fd().is_none());
        let state = InputState {
            received_bytes: 2,
            unaccepted: 0,
            has_ended: false,
            is_closed: true,
        };
        assert_eq!(input.state(), state);
    }

    #[test]
    fn is_closed_without_a_pipe() {
        let never = InputState {
            is_closed: true,
            ..InputState::default()
        };
        assert_eq!(StdinFeeder::new(None).state(), never);
    }
}
