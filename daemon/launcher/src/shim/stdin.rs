//! The writing end of a command's standard input.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use escher_protocol::Blob;
use nix::errno::Errno;

use crate::ipc::wire::InputState;

/// Holds what escherd has sent until the command reads it. escherd sends at most
/// [`INPUT_WINDOW`](crate::ipc::wire::INPUT_WINDOW) pieces ahead, which bounds what stands here.
pub(super) struct Input {
    /// `None` once the input has ended on either side.
    pipe: Option<OwnedFd>,
    pieces: VecDeque<Piece>,
    /// As in [`InputState`].
    received: u64,
    /// As in [`InputState`].
    ended: bool,
    /// As in [`InputState`].
    closed: bool,
}

struct Piece {
    data: Blob,
    written: usize,
    end: bool,
}

/// What writing has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fed {
    /// Pieces that have gone into the pipe in full.
    pub(super) accepted: usize,
    /// Whether the command has closed its end.
    pub(super) refused: bool,
}

impl Input {
    pub(super) fn new(pipe: Option<OwnedFd>) -> Self {
        Input {
            closed: pipe.is_none(),
            pipe,
            pieces: VecDeque::new(),
            received: 0,
            ended: false,
        }
    }

    /// The account so far.
    pub(super) fn state(&self) -> InputState {
        InputState {
            received: self.received,
            // A few: escherd's window bounds them.
            unaccepted: u32::try_from(self.pieces.len()).unwrap_or(u32::MAX),
            ended: self.ended,
            closed: self.closed,
        }
    }

    /// The pipe, while there is something to write into it.
    pub(super) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        if self.pieces.is_empty() {
            None
        } else {
            self.pipe.as_ref().map(AsFd::as_fd)
        }
    }

    /// Takes one piece and writes what fits.
    pub(super) fn take(&mut self, data: Blob, end: bool) -> Fed {
        self.received += data.len() as u64;
        self.ended |= end;
        self.pieces.push_back(Piece {
            data,
            written: 0,
            end,
        });
        self.feed()
    }

    /// Writes what fits.
    pub(super) fn feed(&mut self) -> Fed {
        let mut fed = Fed::default();
        while let Some(piece) = self.pieces.front_mut() {
            let Some(pipe) = &self.pipe else {
                fed.refused = true;
                self.pieces.clear();
                break;
            };
            while piece.written < piece.data.len() {
                match nix::unistd::write(pipe, &piece.data[piece.written..]) {
                    Ok(count) => piece.written += count,
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => return fed,
                    Err(_) => {
                        // EPIPE: nobody reads any more.
                        self.close();
                        fed.refused = true;
                        return fed;
                    }
                }
            }
            fed.accepted += 1;
            if piece.end {
                self.let_go();
                return fed;
            }
            self.pieces.pop_front();
        }
        fed
    }

    /// Nobody reads any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.let_go();
    }

    fn let_go(&mut self) {
        self.pipe = None;
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, read};

    #[test]
    fn a_full_pipe_keeps_the_rest_and_the_order() {
        let (reading, writing) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let mut input = Input::new(Some(writing));
        let big: Vec<u8> = (0..150_000u32).map(|n| (n % 251) as u8).collect();
        let mut accepted = 0;
        for piece in big.chunks(50_000) {
            accepted += input.take(piece.into(), false).accepted;
        }
        assert!(accepted < 3 && input.waits_for().is_some());
        let state = input.state();
        assert_eq!((state.received, state.ended), (150_000, false));
        assert_eq!(state.unaccepted as usize + accepted, 3);
        accepted += input.take(Blob::default(), true).accepted;
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match read(&reading, &mut buffer) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(Errno::EAGAIN) => accepted += input.feed().accepted,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((got, accepted), (big, 4));
        let end = InputState {
            received: 150_000,
            unaccepted: 0,
            ended: true,
            closed: false,
        };
        assert_eq!(input.state(), end);
    }

    #[test]
    fn input_that_nobody_reads_is_refused_not_kept() {
        let (reading, writing) = pipe2(OFlag::O_NONBLOCK).unwrap();
        drop(reading);
        let mut input = Input::new(Some(writing));
        let refused = Fed {
            accepted: 0,
            refused: true,
        };
        // The signal that comes with EPIPE is ignored here and blocked in a shim.
        assert_eq!(input.take("x".into(), false), refused);
        assert_eq!(input.take("y".into(), false), refused);
        assert!(input.waits_for().is_none());
        let state = InputState {
            received: 2,
            unaccepted: 0,
            ended: false,
            closed: true,
        };
        assert_eq!(input.state(), state);
    }

    #[test]
    fn input_that_nobody_ever_read_is_closed() {
        let never = InputState {
            closed: true,
            ..InputState::default()
        };
        assert_eq!(Input::new(None).state(), never);
    }
}
