//! Frames on a byte stream: a length of four bytes, big endian, then so many bytes of payload.
//!
//! Written on tokio-util's codec traits rather than with its `LengthDelimitedCodec`, for two reasons:
//! that one reserves the length that a header claims before any of it has arrived, and it would have
//! every message encoded into a buffer of its own and then copied. Here the buffer grows only as bytes
//! arrive, and a message is encoded straight into the outgoing buffer.

use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder};

use crate::codec::{self, CodecError, MAX_PAYLOAD_BYTES};
use crate::handshake::MAX_HANDSHAKE_BYTES;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 4;

/// A stream that does not hold frames, or a message that does not fit into one.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A frame is longer than allowed.
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// The payload's length as claimed or encoded.
        length: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The payload is not the message that was expected.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream failed, or ended inside a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts a byte stream into messages of type `In` and makes frames of messages of any type.
///
/// Starts with the handshake's limit; [`FrameCodec::established`] makes the codec for what follows.
#[derive(Debug)]
pub struct FrameCodec<In> {
    limit: usize,
    incoming: PhantomData<fn() -> In>,
}

impl<In> FrameCodec<In> {
    /// For the first frame of each side.
    #[must_use]
    pub fn handshake() -> Self {
        FrameCodec {
            limit: MAX_HANDSHAKE_BYTES,
            incoming: PhantomData,
        }
    }

    /// For everything after the handshake.
    #[must_use]
    pub fn established() -> Self {
        FrameCodec {
            limit: MAX_PAYLOAD_BYTES,
            incoming: PhantomData,
        }
    }

    /// Appends `message` as one frame and returns the length of its payload. On an error `buffer` is as
    /// it was.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] when it does not fit, [`FrameError::Codec`] when it cannot be encoded.
    pub fn encode_frame<Out: Serialize>(
        &self,
        message: &Out,
        buffer: &mut BytesMut,
    ) -> Result<usize, FrameError> {
        let start = buffer.len();
        let encoded = self.append(message, buffer);
        if encoded.is_err() {
            buffer.truncate(start);
        }
        encoded
    }

    fn append<Out: Serialize>(
        &self,
        message: &Out,
        buffer: &mut BytesMut,
    ) -> Result<usize, FrameError> {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; HEADER_BYTES]);
        codec::encode_into(message, buffer)?;
        let length = buffer.len() - start - HEADER_BYTES;
        let limit = self.limit;
        match u32::try_from(length) {
            Ok(header) if length <= limit => {
                buffer[start..start + HEADER_BYTES].copy_from_slice(&header.to_be_bytes());
                Ok(length)
            }
            _ => Err(FrameError::TooLarge { length, limit }),
        }
    }
}

impl<In: DeserializeOwned> FrameCodec<In> {
    /// Takes the next message out of `buffer` with the length of its payload; `None` when it is not
    /// there in full yet.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] as soon as a header claims too much, [`FrameError::Codec`] when the
    /// payload is no message. The stream is of no use after either.
    pub fn decode_frame(&self, buffer: &mut BytesMut) -> Result<Option<(In, usize)>, FrameError> {
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > self.limit {
            let limit = self.limit;
            return Err(FrameError::TooLarge { length, limit });
        }
        if buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let message = codec::decode(&buffer[HEADER_BYTES..HEADER_BYTES + length])?;
        buffer.advance(HEADER_BYTES + length);
        Ok(Some((message, length)))
    }
}

impl<In: DeserializeOwned> Decoder for FrameCodec<In> {
    /// The message and the length of its payload in bytes.
    type Item = (In, usize);
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<(In, usize)>, FrameError> {
        self.decode_frame(buffer)
    }
}

impl<In, Out: Serialize> Encoder<&Out> for FrameCodec<In> {
    type Error = FrameError;

    fn encode(&mut self, message: &Out, buffer: &mut BytesMut) -> Result<(), FrameError> {
        self.encode_frame(message, buffer).map(drop)
    }
}
