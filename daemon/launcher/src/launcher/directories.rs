//! Creating and opening the directories to which shims write.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use escher_protocol::Blob;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown, geteuid};

use super::LauncherError;
use crate::ipc::wire::Directories;
use crate::ipc::{exit_record, shim_socket};
use crate::shim::OpenDirectories;

/// Creates the directories that do not exist, and opens all. `group` is the group of an escherd
/// that runs as another user: it may read logs, read and rename exit records, and connect to shims.
/// Others have no access, except that where several users are served each may reach its own logs,
/// whose names only their submitters know.
pub(super) fn open(
    directories: &Directories,
    group: Option<u32>,
) -> Result<OpenDirectories, LauncherError> {
    let log_dir = path(&directories.log_dir);
    let exit_dir = path(&directories.state_dir).join(exit_record::DIRECTORY);
    let shim_dir = path(&directories.runtime_dir).join(shim_socket::DIRECTORY);
    let (exit_mode, shim_mode) = match group {
        None => (0o700, 0o700),
        // Set-group-ID: new files inherit the group (inode(7)).
        Some(_) => (0o2770, 0o2750),
    };
    let is_log_dir_new = !log_dir.exists();
    // Others may enter and not list it.
    let log_mode = if geteuid().is_root() { 0o751 } else { 0o750 };
    let opened = OpenDirectories {
        logs: open_or_create(&log_dir, log_mode, 0)?,
        // No symbolic link is followed: the parents may be writable for escherd, and the owner of
        // these directories is changed below.
        exits: open_or_create(&exit_dir, exit_mode, libc::O_NOFOLLOW)?,
        shims: open_or_create(&shim_dir, shim_mode, libc::O_NOFOLLOW)?,
    };
    if let Some(group) = group {
        // The administrator decides about an existing log directory.
        if is_log_dir_new {
            set_group(&opened.logs, &log_dir, group, 0o2000 | log_mode)?;
        }
        set_group(&opened.exits, &exit_dir, group, exit_mode)?;
        set_group(&opened.shims, &shim_dir, group, shim_mode)?;
    }
    Ok(opened)
}

fn path(bytes: &Blob) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn directory_error(path: &Path) -> impl Fn(io::Error) -> LauncherError {
    let path = path.to_owned();
    move |source| LauncherError::Directory {
        path: path.clone(),
        source,
    }
}

fn open_or_create(path: &Path, mode: u32, flags: i32) -> Result<OwnedFd, LauncherError> {
    let mut builder = DirBuilder::new();
    let created = builder.recursive(true).mode(mode).create(path);
    created.map_err(directory_error(path))?;
    let directory = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | flags)
        .open(path)
        .map_err(directory_error(path))?;
    Ok(directory.into())
}

fn set_group(directory: &OwnedFd, path: &Path, group: u32, mode: u32) -> Result<(), LauncherError> {
    fchown(directory, None, Some(Gid::from_raw(group)))
        .and_then(|()| fchmod(directory, Mode::from_bits_truncate(mode)))
        .map_err(io::Error::from)
        .map_err(directory_error(path))
}
