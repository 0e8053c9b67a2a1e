//! escherctl's own standard input and outputs, byte for byte.

pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod unbuffered;
