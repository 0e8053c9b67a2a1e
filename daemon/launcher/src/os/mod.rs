//! Safe functions for the parts of the operating system that launcher, shims and keeper use.

pub(crate) mod acl;
pub(crate) mod cgroup;
pub(crate) mod deadline;
pub(crate) mod descriptor_path;
pub(crate) mod execution_cgroups;
pub(crate) mod file_holes;
pub mod kernel_support;
pub mod peer_credentials;
pub(crate) mod process_name;
pub(crate) mod process_tree;
pub(crate) mod signalfd;
pub mod socket_activation;
mod system_error;

pub(crate) use system_error::DuringAction;
pub use system_error::SystemError;
