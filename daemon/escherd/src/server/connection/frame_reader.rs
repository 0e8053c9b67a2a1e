//! Reading frames from a socket, before and after the handshake.

use std::io;

use bytes::BytesMut;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::{ApiError, ErrorCode};
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::time::{Instant, timeout_at};

use super::FRAME_TIMEOUT;

/// Capacity of the read buffer, at first and again after a large frame. Longer frames are charged to
/// the memory of their user before more of them is read.
pub(in crate::server) const READ_BUFFER_BYTES: usize = 4096;

/// Reads frames from a socket. The buffer grows as bytes arrive.
pub(super) struct FrameReader {
    pub(super) buffer: BytesMut,
    /// When the first byte of an incomplete frame was read.
    frame_begun: Option<Instant>,
}

impl FrameReader {
    /// Creates a reader of a connection of which these bytes have been read.
    pub(super) fn beginning_with(buffer: BytesMut) -> Self {
        FrameReader {
            frame_begun: (!buffer.is_empty()).then(Instant::now),
            buffer,
        }
    }

    /// Returns the contents of the next frame; `None` when the peer has closed the connection.
    /// Cancel-safe.
    pub(super) async fn next<T: DeserializeOwned>(
        &mut self,
        socket: &mut impl Incoming,
        codec: &FrameCodec<T>,
    ) -> Result<Option<T>, FrameError> {
        loop {
            if let Some((frame, _)) = codec.decode_frame(&mut self.buffer)? {
                self.end_frame();
                return Ok(Some(frame));
            }
            if !self.fill(socket).await? {
                return Ok(None);
            }
        }
    }

    /// Reads more bytes. Returns whether there were any: none come after the last frame once the peer
    /// has closed the connection. Cancel-safe.
    pub(super) async fn fill(&mut self, socket: &mut impl Incoming) -> io::Result<bool> {
        if self.buffer.is_empty() {
            self.frame_begun = None;
            self.buffer.reserve(READ_BUFFER_BYTES);
        } else {
            self.frame_begun.get_or_insert_with(Instant::now);
        }
        let read = socket.read_buf(&mut self.buffer);
        let count = match self.frame_begun {
            None => read.await?,
            Some(begun) => match timeout_at(begun + FRAME_TIMEOUT, read).await {
                Ok(count) => count?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            },
        };
        match (count, self.buffer.is_empty()) {
            (0, false) => Err(io::ErrorKind::UnexpectedEof.into()),
            (count, _) => Ok(count > 0),
        }
    }

    /// Makes space for a frame of `length` bytes, of which the first are in the buffer.
    pub(super) fn begin_large_frame(&mut self, length: usize) {
        self.buffer
            .reserve(length.saturating_sub(self.buffer.len()));
        // Until now the peer may have waited for escherd.
        self.frame_begun = Some(Instant::now());
    }

    /// Prepares for the next frame after one was decoded. What follows a large frame in the buffer
    /// must not keep the memory of that.
    pub(super) fn end_frame(&mut self) {
        self.frame_begun = None;
        if self.buffer.capacity() > READ_BUFFER_BYTES {
            let mut rest = BytesMut::with_capacity(READ_BUFFER_BYTES);
            rest.extend_from_slice(&self.buffer);
            self.buffer = rest;
        }
    }
}

/// The readable end of a connection, before and after the handshake.
pub(super) trait Incoming: tokio::io::AsyncRead + Unpin {}
impl Incoming for UnixStream {}
impl Incoming for OwnedReadHalf {}

/// Returns the error for a peer whose frame cannot be read.
pub(super) fn protocol_error(error: &FrameError) -> ApiError {
    let code = match error {
        FrameError::TooLarge { .. } => ErrorCode::FRAME_TOO_LARGE,
        FrameError::Io(source) if source.kind() == io::ErrorKind::TimedOut => ErrorCode::IDLE,
        FrameError::Codec(_) | FrameError::Io(_) => ErrorCode::PROTOCOL,
    };
    ApiError::new(code, error.to_string())
}
