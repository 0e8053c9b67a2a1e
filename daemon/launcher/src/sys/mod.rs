//! The unsafe code of the project, each piece behind a safe face where there can be one.
//!
//! Every `unsafe` block names what must hold and who upholds it. What is left unsafe to call
//! ([`process::fork`], [`process::clone_child`]) has a `# Safety` section and one caller.

pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod raw;
mod socket;

pub(crate) use socket::{accept, adopt_descriptor, peer_groups, receive_message};
