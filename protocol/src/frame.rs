//! Frames on a byte stream: a length of four bytes, big endian, then a payload of that length.
//!
//! The codec implements tokio-util's traits and does not use its `LengthDelimitedCodec`, which
//! reserves the length that a header claims before any of the payload has arrived, and needs every
//! message in a buffer of its own first. Here the buffer grows only as bytes arrive, and a message
//! is encoded straight into the outgoing buffer.

use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder};

use crate::codec::{self, CodecError, MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES};
use crate::handshake::MAX_HANDSHAKE_BYTES;
use crate::message::ClientFrame;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 4;

/// A stream that does not consist of frames, or a message that does not fit into one.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A frame is longer than allowed.
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// Length of the payload in bytes, as claimed by the header or as encoded.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The payload is not a message of the expected type.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream failed, or ended inside a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Splits a byte stream into messages of type `In`, and writes messages of any type as frames.
#[derive(Debug)]
pub struct FrameCodec<In> {
    limit: usize,
    /// Whether incoming frames are those of a client, which may be longer the more a request may
    /// say.
    is_limited_by_request: bool,
    incoming: PhantomData<fn() -> In>,
}

impl FrameCodec<ClientFrame> {
    /// Creates the codec for a client's frames: at most [`MAX_PAYLOAD_BYTES`] for one that submits,
    /// [`MAX_REQUEST_BYTES`] for any other. The first bytes of a payload tell which.
    #[must_use]
    pub fn of_clients() -> Self {
        FrameCodec {
            is_limited_by_request: true,
            ..FrameCodec::established()
        }
    }
}

impl<In> FrameCodec<In> {
    /// Creates the codec for the first frame of each side, of at most [`MAX_HANDSHAKE_BYTES`].
    #[must_use]
    pub fn handshake() -> Self {
        FrameCodec {
            limit: MAX_HANDSHAKE_BYTES,
            is_limited_by_request: false,
            incoming: PhantomData,
        }
    }

    /// Creates the codec for frames after the handshake, of at most [`MAX_PAYLOAD_BYTES`].
    #[must_use]
    pub fn established() -> Self {
        FrameCodec {
            limit: MAX_PAYLOAD_BYTES,
            is_limited_by_request: false,
            incoming: PhantomData,
        }
    }

    /// Appends `message` to `buffer` as one frame and returns the length of its payload in bytes.
    /// On an error `buffer` is unchanged.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if the message exceeds the limit, [`FrameError::Codec`] if it
    /// cannot be encoded.
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
    /// Returns the length of the first frame in `buffer`, with its header; `None` while too few of
    /// its bytes are there to tell whether it may be as long.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] as soon as a header claims more than the limit.
    pub fn frame_length(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some((header, payload)) = buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        let mut limit = self.limit;
        if self.is_limited_by_request && (MAX_REQUEST_BYTES + 1..=limit).contains(&length) {
            match ClientFrame::max_payload_bytes_by(payload) {
                Some(by_request) => limit = by_request,
                None => return Ok(None),
            }
        }
        if length > limit {
            return Err(FrameError::TooLarge { length, limit });
        }
        Ok(Some(HEADER_BYTES + length))
    }

    /// Removes the next message from `buffer` and returns it with the length of its payload in
    /// bytes; `None` while its frame is incomplete.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] as soon as a header claims more than the limit,
    /// [`FrameError::Codec`] if the payload is not a message. The stream cannot be used after
    /// either.
    pub fn decode_frame(&self, buffer: &mut BytesMut) -> Result<Option<(In, usize)>, FrameError> {
        let Some(length) = self.frame_length(buffer)? else {
            return Ok(None);
        };
        if buffer.len() < length {
            return Ok(None);
        }
        let message = codec::decode(&buffer[HEADER_BYTES..length])?;
        buffer.advance(length);
        Ok(Some((message, length - HEADER_BYTES)))
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
