//! The contract between escherd, launcher and shims: messages, the sockets that carry them, and the files that a
//! command leaves behind.

pub mod exit_record;
pub mod log_index;
pub mod packet;
pub(crate) mod shim_listener;
pub mod shim_socket;
pub mod wire;
