//! The directories in the system's temporary directory that are this user's by default.

use std::path::PathBuf;

use escher_protocol::socket_paths::{UserRuntimeDir, temporary_dir};
use nix::unistd::geteuid;

/// Returns the directory in which an embedded engine has its files by default. All programs of the user
/// that embed an engine share it.
pub(crate) fn user_temporary_dir() -> PathBuf {
    let temporary = temporary_dir(|name| std::env::var_os(name));
    temporary.join(format!("escher-executions-{}", geteuid()))
}

/// Returns the directories of this user in the temporary directory: that of embedded engines, and the
/// runtime directory where the user has no other.
/// [`PrivateDir`](crate::host::private_dir::PrivateDir) creates them.
pub(crate) fn user_temporary_dirs() -> Vec<PathBuf> {
    let runtime = UserRuntimeDir::of(geteuid().as_raw(), |name| std::env::var_os(name));
    let runtime = runtime.is_temporary.then_some(runtime.path);
    [user_temporary_dir()].into_iter().chain(runtime).collect()
}
