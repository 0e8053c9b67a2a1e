//! Reading the frames of a user, in turns and within the user's memory.

use std::future::poll_fn;
use std::io;

use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::{ApiError, ClientFrame, ErrorCode};
use tokio::time::{Instant, timeout_at};

use super::FRAME_TIMEOUT;
use super::frame_reader::{FrameReader, Incoming, READ_BUFFER_BYTES, protocol_error};
use crate::server::memory::{Charge, PendingCharge, UserMemory};
use crate::turns::{PendingTurn, Turn, Turns};

/// Reads the frames of a user: each in a turn of that user, the large ones once there is room for them.
pub(super) struct RequestReader {
    reader: FrameReader,
    uid: u32,
    turns: Turns,
    pending_turn: Option<PendingTurn>,
    memory: UserMemory,
    /// The memory of a frame that has not arrived completely.
    charge: Charge,
    /// The wait for room for it, and the end of that wait.
    pending_charge: Option<(PendingCharge, Instant)>,
}

impl RequestReader {
    /// Creates the reader of a user's requests. `reader` may have read some bytes already.
    pub(super) fn new(reader: FrameReader, uid: u32, turns: Turns, memory: UserMemory) -> Self {
        RequestReader {
            reader,
            uid,
            turns,
            pending_turn: None,
            charge: memory.nothing(),
            memory,
            pending_charge: None,
        }
    }

    /// Returns the next frame; `None` when the peer has closed the connection. Cancel-safe: a place in
    /// a queue is kept.
    pub(super) async fn next(
        &mut self,
        socket: &mut impl Incoming,
    ) -> Result<Option<ReceivedFrame>, ReadError> {
        let codec = FrameCodec::of_clients();
        loop {
            let received = self.reader.buffer.len();
            match codec.frame_length(&self.reader.buffer)? {
                Some(length) if received >= length => {
                    let turn = self.turn().await;
                    let decoded = codec.decode_frame(&mut self.reader.buffer)?;
                    self.reader.end_frame();
                    let charge = std::mem::replace(&mut self.charge, self.memory.nothing());
                    return Ok(decoded.map(|(frame, length)| ReceivedFrame {
                        frame,
                        length,
                        charge,
                        turn,
                    }));
                }
                Some(length) if length > READ_BUFFER_BYTES && !self.charge.is_something() => {
                    self.charge = self.charge_frame(length).await?;
                    self.reader.begin_large_frame(length);
                }
                _ => {
                    if !self.reader.fill(socket).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let queue = || self.turns.queue(self.uid);
        let pending = self.pending_turn.get_or_insert_with(queue);
        let turn = poll_fn(|context| pending.poll(context)).await;
        self.pending_turn = None;
        turn
    }

    /// Waits for room for a frame of `length` bytes. Meanwhile the connection is not read.
    async fn charge_frame(&mut self, length: usize) -> Result<Charge, ReadError> {
        let queue = || {
            let deadline = Instant::now() + FRAME_TIMEOUT;
            (self.memory.queue(length), deadline)
        };
        let (pending, deadline) = self.pending_charge.get_or_insert_with(queue);
        let charge = timeout_at(*deadline, poll_fn(|context| pending.poll(context))).await;
        self.pending_charge = None;
        charge.map_err(|_| ReadError::OverMemoryLimit)
    }
}

/// A frame, with what it takes.
pub(super) struct ReceivedFrame {
    pub(super) frame: ClientFrame,
    /// Length of its payload.
    pub(super) length: usize,
    /// Its memory, if that is more than the connection's own buffer.
    pub(super) charge: Charge,
    /// The turn in which it is decoded and a request is begun.
    pub(super) turn: Turn,
}

/// The reason why a connection cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("there was no room in memory for a frame")]
    OverMemoryLimit,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Frame(error.into())
    }
}

impl ReadError {
    /// Returns the error for the client.
    pub(super) fn to_api_error(&self) -> ApiError {
        match self {
            ReadError::Frame(error) => protocol_error(error),
            ReadError::OverMemoryLimit => over_memory_limit(),
        }
    }
}

pub(in crate::server) fn over_memory_limit() -> ApiError {
    let message = "the requests and unread answers of this user take all the memory that they may";
    ApiError::new(ErrorCode::OVERLOADED, message)
        .with_hint("try again once some of them are answered and read")
}
