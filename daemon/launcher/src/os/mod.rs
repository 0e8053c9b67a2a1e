//! What launcher, shims and keeper ask of the operating system, in safe functions.

pub(crate) mod cgroup;
pub(crate) mod deadline;
pub mod kernel_support;
pub mod peer_credentials;
pub(crate) mod process_tree;
pub(crate) mod signalfd;
pub mod socket_activation;
