//! Deleting the files of executions.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use escher_protocol::ExecutionId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::ipc::exit_record;
use crate::ipc::shim_socket::{self, SocketName};
use crate::ipc::wire::{ExecutionFiles, MAX_IDS_AT_ONCE};
use crate::os::execution_cgroups::{CgroupName, ExecutionCgroups};
use crate::shim::OpenDirectories;

/// Deletes `files` of `ids` and returns the ids that have no such file any more. Ids beyond
/// [`MAX_IDS_AT_ONCE`] are ignored, and are not returned.
pub(super) fn remove(
    directories: &OpenDirectories,
    cgroups: Option<&ExecutionCgroups>,
    files: ExecutionFiles,
    mut ids: Vec<ExecutionId>,
) -> Vec<ExecutionId> {
    ids.truncate(MAX_IDS_AT_ONCE);
    let remaining = match files {
        ExecutionFiles::Claim { .. } => RemainingCgroups::find(cgroups),
        ExecutionFiles::Log | ExecutionFiles::ExitRecord { .. } => None,
    };
    ids.retain(|id| {
        let removed = match files {
            // The log goes first: without its index it would be read as output of one stream.
            ExecutionFiles::Log => ["log", "idx"].iter().try_for_each(|extension| {
                unlink_and_empty(directories.logs.as_fd(), &format!("{id}.{extension}"))
            }),
            // A shim that was killed may have left a draft.
            ExecutionFiles::ExitRecord { attempt } => {
                let name = exit_record::file_name(*id, attempt);
                let draft = exit_record::draft_name(*id, attempt);
                unlink(directories.exits.as_fd(), &draft)
                    .and_then(|()| unlink(directories.exits.as_fd(), &name))
            }
            ExecutionFiles::Claim { attempt } => {
                remove_claim(directories.shims.as_fd(), remaining.as_ref(), *id, attempt)
            }
        };
        removed.is_ok()
    });
    ids
}

/// Removes a file, if it exists, and empties it: a process that has it open keeps neither its bytes
/// nor its space on the disk. It is removed first, so that no file is ever found empty that was not. One that
/// is not a regular file is only removed.
fn unlink_and_empty(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // Without waiting for the reader of a FIFO.
    let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty());
    unlink(directory, name)?;
    if let Ok(file) = file {
        // The name is gone, and with it every way to try this again.
        let _ = File::from(file).set_len(0);
    }
    Ok(())
}

/// Removes a file of any kind, if it exists. A symbolic link is removed itself.
fn unlink(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the claim of a dead shim, after the cgroup of its execution. A living shim keeps its
/// claim, without which no escherd could find it.
fn remove_claim(
    directory: BorrowedFd<'_>,
    cgroups: Option<&RemainingCgroups<'_>>,
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
                    cgroups.kill_and_remove(id)?;
                }
                unlink(directory, &name.to_string())
            }
            _ => Err(error),
        },
    }
}

/// The cgroups that executions have left, listed once for all claims of a request. None is added for
/// an execution whose shim is dead.
struct RemainingCgroups<'c> {
    cgroups: &'c ExecutionCgroups,
    names: io::Result<HashMap<ExecutionId, CgroupName>>,
}

impl<'c> RemainingCgroups<'c> {
    fn find(cgroups: Option<&'c ExecutionCgroups>) -> Option<Self> {
        cgroups.map(|cgroups| RemainingCgroups {
            cgroups,
            names: cgroups.list(),
        })
    }

    fn kill_and_remove(&self, id: ExecutionId) -> io::Result<()> {
        let names = self.names.as_ref().map_err(|error| error.kind())?;
        let Some(name) = names.get(&id) else {
            return Ok(());
        };
        if let Some(cgroup) = self.cgroups.open_existing(name)? {
            // A failure shows below: a cgroup with processes cannot be removed.
            let _ = cgroup.kill();
        }
        if self.cgroups.remove(name) {
            Ok(())
        } else {
            Err(io::ErrorKind::ResourceBusy.into())
        }
    }
}

/// Removes the sockets of shims that died unused or with leftovers, and whose launcher had died as well.
/// Claims stay: they tell escherd which executions are lost.
pub(super) fn remove_stale_sockets(directory: BorrowedFd<'_>) -> io::Result<()> {
    for name in shim_socket::list(directory)? {
        if matches!(name, SocketName::Claim { .. }) {
            continue;
        }
        let is_dead = shim_socket::connect(directory, &name)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if is_dead {
            unlink(directory, &name.to_string())?;
        }
    }
    Ok(())
}
