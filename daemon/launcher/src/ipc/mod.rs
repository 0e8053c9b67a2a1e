//! The contract between escherd, launcher and shims: messages, the sockets that carry them, and the
//! files that commands leave behind.

pub mod exit_record;
pub mod log_index;
pub mod packet;
pub mod shim_socket;
pub mod wire;
