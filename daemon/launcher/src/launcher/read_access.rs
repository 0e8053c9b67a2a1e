//! Taking the access to logs away from a user.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use escher_protocol::ExecutionId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::ipc::wire::MAX_IDS_AT_ONCE;
use crate::os::acl::revoke_read;

/// Takes what access control lists allow the user `uid` on logs and indexes of `ids`, and returns the
/// ids for which that was done or not necessary. Ids beyond [`MAX_IDS_AT_ONCE`] are ignored, and are
/// not returned.
pub(super) fn revoke(
    logs: BorrowedFd<'_>,
    uid: u32,
    mut ids: Vec<ExecutionId>,
) -> Vec<ExecutionId> {
    ids.truncate(MAX_IDS_AT_ONCE);
    ids.retain(|id| {
        let mut names = ["log", "idx"]
            .map(|extension| format!("{id}.{extension}"))
            .into_iter();
        names.all(|name| revoke_one(logs, uid, &name).is_ok())
    });
    ids
}

/// As [`revoke`], for one file. A file that does not exist, or is not a regular one, is none of ours.
fn revoke_one(logs: BorrowedFd<'_>, uid: u32, name: &str) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match openat(logs, name, flags, Mode::empty()) {
        Ok(file) => revoke_read(file.as_fd(), uid),
        Err(Errno::ENOENT | Errno::ELOOP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
