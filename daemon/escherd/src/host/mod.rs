//! What escherd stands on: systemd, open files, the boot, where its log goes.

pub mod boot_id;
pub mod fd_budget;
pub mod logging;
pub mod systemd;
