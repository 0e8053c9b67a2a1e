//! The interface to the host: systemd and what it has started, file descriptors, the boot ID, private
//! directories, paths that others cannot change, the log.

pub mod boot_id;
pub mod fd_budget;
pub(crate) mod free_space;
mod journal_writer;
pub mod logging;
pub(crate) mod private_dir;
pub mod service_manager;
pub mod systemd;
pub mod trusted_path;
