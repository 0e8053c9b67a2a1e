//! The interface to the host: systemd, file descriptors, the boot ID, the log.

pub mod boot_id;
pub mod fd_budget;
pub mod logging;
pub mod systemd;
