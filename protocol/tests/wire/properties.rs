//! Properties of all messages, and of bytes that are not a message.

use std::fmt::Debug;

use escher_protocol::codec::{self, CodecError};
use escher_protocol::handshake::{Hello, HelloReply};
use escher_protocol::{ClientFrame, ServerFrame};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::strategies;

proptest! {
    #[test]
    fn a_message_decodes_to_itself(message in strategies::message()) {
        prop_assert_eq!(message.equals_decoded(&message.encode()), Ok(true));
    }

    #[test]
    fn every_truncation_is_an_error(message in strategies::message()) {
        let encoded = message.encode();
        for length in 0..encoded.len() {
            let decoded = message.equals_decoded(&encoded[..length]);
            prop_assert!(
                matches!(decoded, Err(CodecError::Malformed(_))),
                "the first {length} bytes decode to {decoded:?}"
            );
        }
    }

    #[test]
    fn every_trailing_byte_is_an_error(
        message in strategies::message(),
        tail in vec(any::<u8>(), 1..20),
    ) {
        let mut bytes = message.encode();
        for (index, byte) in tail.into_iter().enumerate() {
            bytes.push(byte);
            let decoded = message.equals_decoded(&bytes);
            prop_assert_eq!(decoded, Err(CodecError::Trailing(index + 1)));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..512)) {
        assert_reencodable_as_any(&bytes)?;
    }

    /// Bytes that are nearly a message get further into the decoder than random ones.
    #[test]
    fn a_damaged_message_is_a_message_or_an_error(
        message in strategies::message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = message.encode();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        assert_reencodable_as_any(&bytes)?;
    }
}

fn assert_reencodable_as_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    assert_reencodable::<Hello>(bytes)?;
    assert_reencodable::<HelloReply>(bytes)?;
    assert_reencodable::<ClientFrame>(bytes)?;
    assert_reencodable::<ServerFrame>(bytes)
}

/// Asserts that bytes which decode can be encoded again with the same meaning.
fn assert_reencodable<T>(bytes: &[u8]) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    if let Ok(message) = codec::decode::<T>(bytes) {
        let again =
            codec::encode(&message).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(
            again.len() <= bytes.len(),
            "the shortest form is what is written"
        );
        prop_assert_eq!(codec::decode::<T>(&again), Ok(message));
    }
    Ok(())
}
