//! Free space on a file system.

use nix::sys::statvfs::Statvfs;

/// Returns how many bytes unprivileged users can still write (statvfs(3)).
pub(crate) fn free_bytes(stat: &Statvfs) -> u64 {
    stat.blocks_available().saturating_mul(stat.fragment_size())
}
