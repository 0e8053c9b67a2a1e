//! Deleting what executions have left on disk.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use escher_protocol::ExecutionId;
use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::ipc::exit_record;
use crate::ipc::shim_socket::{self, SocketName};
use crate::ipc::wire::{Artifact, MAX_REMOVED_AT_ONCE};
use crate::os::cgroup::Cgroups;
use crate::shim::Directories;

/// Deletes `artifact` of `ids` and returns the ids that have no such file any more. Ids beyond
/// [`MAX_REMOVED_AT_ONCE`] are ignored, and so not among them.
pub(super) fn remove(
    directories: &Directories,
    cgroups: Option<&Cgroups>,
    artifact: Artifact,
    ids: Vec<ExecutionId>,
) -> Vec<ExecutionId> {
    let mut ids = ids;
    ids.truncate(MAX_REMOVED_AT_ONCE);
    ids.retain(|id| {
        let removed = match artifact {
            // A log without its index would be read as all of one stream.
            Artifact::Log => unlink(directories.logs.as_fd(), &format!("{id}.log"))
                .and_then(|()| unlink(directories.logs.as_fd(), &format!("{id}.idx"))),
            // A shim that was killed may have left the draft of one.
            Artifact::ExitRecord { attempt } => {
                let name = exit_record::file_name(*id, attempt);
                unlink(
                    directories.exits.as_fd(),
                    &exit_record::draft_name(*id, attempt),
                )
                .and_then(|()| unlink(directories.exits.as_fd(), &name))
            }
            Artifact::Claim { attempt } => {
                remove_claim(directories.shims.as_fd(), cgroups, *id, attempt)
            }
        };
        removed.is_ok()
    });
    ids
}

/// Whatever bears the name; a link is removed, not followed. It is fine if nothing does.
fn unlink(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A living shim keeps its claim: by it alone another escherd finds the command. A dead one's stays until its cgroup is
/// gone, too.
fn remove_claim(
    directory: BorrowedFd<'_>,
    cgroups: Option<&Cgroups>,
    id: ExecutionId,
    attempt: u32,
) -> io::Result<()> {
    let name = SocketName::Claim { id, attempt };
    match shim_socket::connect(directory, &name) {
        Ok(_) => Err(io::ErrorKind::ResourceBusy.into()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::ConnectionRefused => {
                if let Some(cgroups) = cgroups {
                    clear(cgroups, id)?;
                }
                unlink(directory, &name.to_string())
            }
            _ => Err(error),
        },
    }
}

fn clear(cgroups: &Cgroups, id: ExecutionId) -> io::Result<()> {
    if let Some(cgroup) = cgroups.find(id)? {
        // Whether anything is left shows next.
        let _ = cgroup.kill();
    }
    if cgroups.remove(id) {
        Ok(())
    } else {
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

/// Removes the sockets of shims that died before they had a command, and with nobody there to do it. Claims
/// stay: they are what tells of an execution that was lost.
pub(super) fn sweep(directory: BorrowedFd<'_>) -> io::Result<()> {
    for name in shim_socket::list(directory)? {
        if !matches!(name, SocketName::Ready(_)) {
            continue;
        }
        let refused = shim_socket::connect(directory, &name)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            unlink(directory, &name.to_string())?;
        }
    }
    Ok(())
}
