//! The unsafe code of the project, behind safe functions where that is possible.
//!
//! Every `unsafe` block lists what must hold and why it does. Functions that remain unsafe to call
//! ([`process::fork`], [`process::clone_child`], [`adopt_descriptor`], [`close_from`]) have a
//! `# Safety` section and one caller each.

mod descriptor;
pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod raw;
mod socket;
mod wiping_allocator;
pub(crate) mod xattr;

pub(crate) use descriptor::{adopt_descriptor, bytes_in_pipe, close_from};
pub(crate) use socket::{accept, peer_groups, receive_message};
pub use wiping_allocator::WipingAllocator;
