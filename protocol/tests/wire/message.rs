//! Messages with their types erased, so that each property is written once.

use std::fmt::Debug;

use escher_protocol::codec::{self, CodecError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A message of any type.
pub(crate) trait Message: Debug {
    fn encode(&self) -> Vec<u8>;

    /// Decodes `bytes` as the type of `self` and returns whether the result equals `self`.
    fn equals_decoded(&self, bytes: &[u8]) -> Result<bool, CodecError>;
}

impl<T: Serialize + DeserializeOwned + PartialEq + Debug> Message for T {
    fn encode(&self) -> Vec<u8> {
        codec::encode(self).expect("messages of the protocol can be encoded")
    }

    fn equals_decoded(&self, bytes: &[u8]) -> Result<bool, CodecError> {
        Ok(codec::decode::<T>(bytes)? == *self)
    }
}
