//! Encoding and decoding of messages.
//!
//! The encoding is that of bincode 2.0.1 in serde mode with its standard configuration (little
//! endian, variable-length integers). bincode is no longer maintained (RUSTSEC-2025-0141), so only
//! this module uses it. Decoding is bounded by the length of its input, which it must use up, and
//! it cannot recurse, because no message type does.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bytes::BytesMut;
use serde::Serialize;
use serde::de::Deserialize;

/// Longest payload of a frame after the handshake, in bytes. A full argument list (2 MiB,
/// execve(2)) with its environment fits.
pub const MAX_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// Longest payload of a client's frame after the handshake that submits nothing, in bytes. A
/// [`WriteStdin`](crate::Request::WriteStdin) at its maximum fits, whatever its target.
pub const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// Where bincode stops decoding. It counts an integer by its size in memory, up to eight times its
/// size on the wire, so this is the smallest limit that every payload of a frame passes.
const DECODE_LIMIT: usize = 8 * MAX_PAYLOAD_BYTES;

type Config = Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>>;

const CONFIG: Config = config::standard().with_limit::<DECODE_LIMIT>();

/// A failure to decode or encode a message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes end too early, contain an unknown variant, or exceed a limit.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The message is complete, but bytes follow it.
    #[error("malformed message: {0} bytes follow its end")]
    Trailing(usize),
    /// The value cannot be encoded.
    #[error("message cannot be encoded: {0}")]
    Unencodable(String),
}

/// Appends the encoded `message` to `buffer`. On an error `buffer` may hold a part of it.
///
/// # Errors
/// [`CodecError::Unencodable`] if the type refuses serialisation; the types of this crate never do.
pub fn encode_into<T: Serialize>(message: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
    struct Append<'a>(&'a mut BytesMut);
    impl Writer for Append<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    bincode::serde::encode_into_writer(message, Append(buffer), CONFIG)
        .map_err(|error| CodecError::Unencodable(error.to_string()))
}

/// Encodes `message` into a new buffer.
///
/// # Errors
/// As [`encode_into`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(message, CONFIG)
        .map_err(|error| CodecError::Unencodable(error.to_string()))
}

/// Decodes a value from the beginning of `bytes`; `None` if they are too few, or encode no such
/// value.
pub(crate) fn decode_beginning<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Option<T> {
    let decoded = bincode::serde::borrow_decode_from_slice(bytes, CONFIG);
    decoded.ok().map(|(value, _)| value)
}

/// Decodes one message from all of `bytes`.
///
/// # Errors
/// [`CodecError::Malformed`] if `bytes` do not begin with such a message, [`CodecError::Trailing`]
/// if they continue behind it.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    let (message, used) = bincode::serde::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(message),
        rest => Err(CodecError::Trailing(rest)),
    }
}
