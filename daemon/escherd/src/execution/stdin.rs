//! Flow control of an execution's standard input: what clients have written, and what the shim has accepted.

use std::collections::VecDeque;

use escher_launcher::ipc::wire::{INPUT_WINDOW, InputState};
use escher_protocol::{ApiError, Blob, ErrorCode, StdinMode};

/// Most writes that wait for a command that does not read. Further writes are refused.
pub(super) const MAX_WAITING_WRITES: usize = 16;

/// A write to standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdinWrite {
    /// Its offset, from the first byte ever written.
    pub offset: u64,
    /// The bytes.
    pub data: Blob,
    /// Whether the input ends after them.
    pub end: bool,
}

/// The answer to a write: bytes accepted by the shim so far, or why it takes no more.
pub type StdinAnswer = Result<u64, ApiError>;

/// The state of a standard input. `R` is the responder of a write, through which its answer is sent; it is returned
/// with the answer.
#[derive(Debug)]
pub struct Stdin<R = tokio::sync::oneshot::Sender<StdinAnswer>> {
    phase: Phase,
    /// Bytes written so far, accepted by the shim or not.
    offset: u64,
    waiting: VecDeque<(StdinWrite, Option<R>)>,
    /// Writes that were sent to the shim and not accepted yet: the offset after each, and its responder, which writes
    /// that an earlier escherd has sent do not have.
    in_flight: VecDeque<(u64, Option<R>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// More may come.
    Open,
    /// A client has sent the end of the input.
    Ended,
    /// The command has no input, or has closed it.
    Closed,
}

impl<R> Stdin<R> {
    /// Creates the standard input of an execution that was submitted with `mode`.
    #[must_use]
    pub fn new(mode: StdinMode) -> Self {
        Stdin {
            phase: match mode {
                StdinMode::Null => Phase::Closed,
                StdinMode::Stream => Phase::Open,
            },
            offset: 0,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// Returns whether more may come.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns where the next byte belongs.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Ends the input behind what was written.
    pub fn end(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ended;
            let end = StdinWrite {
                offset: self.offset,
                data: Blob::default(),
                end: true,
            };
            self.waiting.push_back((end, None));
        }
    }

    /// Queues a write. Its answer comes from [`Stdin::accepted`] or [`Stdin::close`].
    ///
    /// # Errors
    /// The answer to send at once: the write is a repeat, or is refused.
    pub fn write(&mut self, write: StdinWrite, responder: R) -> Result<(), (StdinAnswer, R)> {
        let StdinWrite {
            offset,
            mut data,
            end,
        } = write;
        let next = self.offset;
        let refusal = |code, message: String| Err(ApiError::new(code, message));
        let after = offset.saturating_add(data.len() as u64);
        if self.phase == Phase::Closed {
            let message = "the execution's standard input is closed".to_owned();
            return Err((refusal(ErrorCode::STDIN_CLOSED, message), responder));
        }
        // Otherwise it is a repeat after a lost answer.
        let is_new = after > next || (end && self.phase == Phase::Open);
        if !is_new {
            return Err((Ok(next), responder));
        }
        if self.phase == Phase::Ended {
            let message = "the end of the execution's standard input was already sent".to_owned();
            return Err((refusal(ErrorCode::STDIN_CLOSED, message), responder));
        }
        if offset > next {
            let message = format!(
                "standard input was written at offset {offset}, but the next byte is {next}"
            );
            return Err((refusal(ErrorCode::STDIN_OFFSET, message), responder));
        }
        if self.waiting.len() >= MAX_WAITING_WRITES {
            let message =
                format!("{MAX_WAITING_WRITES} writes are already waiting for the command to read");
            return Err((refusal(ErrorCode::TOO_MANY_REQUESTS, message), responder));
        }
        let known = usize::try_from(next - offset).unwrap_or(usize::MAX);
        if known > 0 {
            data = data[known.min(data.len())..].into();
        }
        self.offset = after;
        if end {
            self.phase = Phase::Ended;
        }
        self.waiting.push_back((
            StdinWrite {
                offset: next,
                data,
                end,
            },
            Some(responder),
        ));
        Ok(())
    }

    /// Continues where an earlier escherd stopped, by the state that the adopted shim reports.
    pub fn adopt(&mut self, input: &InputState) {
        self.offset = input.received_bytes;
        if input.is_closed {
            self.phase = Phase::Closed;
        } else if input.has_ended {
            self.phase = Phase::Ended;
        }
        let unaccepted = (0..input.unaccepted).map(|_| (input.received_bytes, None));
        self.in_flight = unaccepted.collect();
    }

    /// Returns the next write to send to a shim, within its window.
    pub fn next_to_send(&mut self) -> Option<StdinWrite> {
        if self.in_flight.len() >= INPUT_WINDOW {
            return None;
        }
        let (write, responder) = self.waiting.pop_front()?;
        let after = write.offset + write.data.len() as u64;
        self.in_flight.push_back((after, responder));
        Some(write)
    }

    /// Notes that the shim has accepted the oldest write in flight, and returns its answer.
    pub fn accepted(&mut self) -> Option<(StdinAnswer, R)> {
        let (after, responder) = self.in_flight.pop_front()?;
        Some((Ok(after), responder?))
    }

    /// Closes the input because the command has closed it, and returns the answers to all writes.
    pub fn close(&mut self) -> Vec<(StdinAnswer, R)> {
        self.phase = Phase::Closed;
        let waiting = self
            .waiting
            .drain(..)
            .filter_map(|(_, responder)| responder);
        let in_flight = self
            .in_flight
            .drain(..)
            .filter_map(|(_, responder)| responder);
        let error = || {
            ApiError::new(
                ErrorCode::STDIN_CLOSED,
                "the command has closed its standard input",
            )
        };
        in_flight
            .chain(waiting)
            .map(|responder| (Err(error()), responder))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, data: &str, end: bool) -> StdinWrite {
        StdinWrite {
            offset,
            data: data.into(),
            end,
        }
    }

    fn stdin() -> Stdin<u8> {
        Stdin::new(StdinMode::Stream)
    }

    #[test]
    fn writes_are_sent_in_order_within_the_window() {
        let mut stdin = stdin();
        for number in 0..6 {
            stdin
                .write(write(u64::from(number), "x", false), number)
                .unwrap();
        }
        let sent = std::iter::from_fn(|| stdin.next_to_send()).count();
        assert_eq!(sent, INPUT_WINDOW);
        assert_eq!(stdin.accepted(), Some((Ok(1), 0)));
        assert_eq!(stdin.next_to_send(), Some(write(4, "x", false)));
    }

    #[test]
    fn a_repeat_is_skipped_and_a_gap_refused() {
        let mut stdin = stdin();
        stdin.write(write(0, "abcd", false), 0).unwrap();
        assert_eq!(stdin.write(write(0, "ab", false), 1), Err((Ok(4), 1)));
        assert_eq!(stdin.write(write(0, "abcd", false), 2), Err((Ok(4), 2)));
        stdin.write(write(2, "cdef", true), 3).unwrap();
        stdin.next_to_send();
        assert_eq!(stdin.next_to_send(), Some(write(4, "ef", true)));
        assert_eq!(stdin.write(write(2, "cdef", true), 4), Err((Ok(6), 4)));
        let (late, _) = stdin.write(write(6, "g", false), 5).unwrap_err();
        assert_eq!(late.unwrap_err().code, ErrorCode::STDIN_CLOSED);
        let (gap, _) = super::tests::stdin()
            .write(write(1, "x", false), 6)
            .unwrap_err();
        assert_eq!(gap.unwrap_err().code, ErrorCode::STDIN_OFFSET);
    }

    #[test]
    fn an_end_without_bytes_ends_the_input() {
        let mut stdin = stdin();
        stdin.write(write(0, "", true), 0).unwrap();
        assert_eq!(stdin.next_to_send(), Some(write(0, "", true)));
        let mut stdin = super::tests::stdin();
        stdin.write(write(0, "ab", false), 0).unwrap();
        stdin.write(write(2, "", true), 1).unwrap();
    }

    #[test]
    fn an_adopted_input_continues_where_the_shim_is() {
        let state = InputState {
            received_bytes: 10,
            unaccepted: 4,
            has_ended: false,
            is_closed: false,
        };
        let mut adopted = Stdin::new(StdinMode::Stream);
        adopted.adopt(&state);
        assert_eq!(
            adopted.write(write(4, "repeat", false), 0),
            Err((Ok(10), 0))
        );
        adopted.write(write(8, "..new", false), 1).unwrap();
        assert!(
            adopted.next_to_send().is_none(),
            "the shim's window is full"
        );
        assert!(
            adopted.accepted().is_none(),
            "writes of the earlier escherd have no responder"
        );
        assert_eq!(adopted.next_to_send(), Some(write(10, "new", false)));
        for (state, late) in [
            (
                InputState {
                    has_ended: true,
                    ..state
                },
                write(10, "x", false),
            ),
            (
                InputState {
                    is_closed: true,
                    ..state
                },
                write(10, "x", false),
            ),
        ] {
            let mut adopted = Stdin::new(StdinMode::Stream);
            adopted.adopt(&state);
            let (refused, _) = adopted.write(late, 2).unwrap_err();
            assert_eq!(refused.unwrap_err().code, ErrorCode::STDIN_CLOSED);
        }
    }

    #[test]
    fn closing_answers_every_write_and_the_limit_holds() {
        let mut stdin = Stdin::new(StdinMode::Stream);
        for number in 0..MAX_WAITING_WRITES {
            stdin
                .write(write(number as u64, "x", false), number)
                .unwrap();
        }
        let (over, _) = stdin
            .write(write(MAX_WAITING_WRITES as u64, "x", false), 99)
            .unwrap_err();
        assert_eq!(over.unwrap_err().code, ErrorCode::TOO_MANY_REQUESTS);
        assert_eq!(stdin.close().len(), MAX_WAITING_WRITES);
        let none: Result<(), _> = Stdin::new(StdinMode::Null).write(write(0, "x", false), 0);
        assert_eq!(
            none.unwrap_err().0.unwrap_err().code,
            ErrorCode::STDIN_CLOSED
        );
    }
}
