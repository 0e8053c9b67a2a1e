//! escherctl's own standard input and outputs, byte for byte, and a pager in place of the outputs.

pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod pager;
pub(crate) mod unbuffered;
pub(crate) mod unread_input;
