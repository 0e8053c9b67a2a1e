//! Answers as JSON. The objects are the protocol's; failures of escherctl are its own.

mod failure;
#[cfg(test)]
mod tests;

pub(crate) use escher_protocol::json::*;
pub(crate) use failure::failure;
