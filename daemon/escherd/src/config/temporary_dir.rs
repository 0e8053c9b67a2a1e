//! The directory in which an embedded engine has its files by default.

use std::path::PathBuf;

use nix::unistd::geteuid;

/// Returns the path of this user's temporary directory for engines. All programs of the user that
/// embed an engine share it; [`create_private_dir`](crate::host::private_dir::create_private_dir)
/// creates it.
pub(crate) fn user_temporary_dir() -> PathBuf {
    // A relative TMPDIR would mean another directory for each program.
    let temporary = Some(std::env::temp_dir()).filter(|dir| dir.is_absolute());
    let temporary = temporary.unwrap_or_else(|| "/tmp".into());
    temporary.join(format!("escher-executions-{}", geteuid()))
}
