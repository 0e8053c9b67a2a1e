//! The directories that shims write to: made, opened, and given to whom they belong.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use escher_protocol::Blob;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown};

use super::LauncherError;
use crate::ipc::wire;
use crate::ipc::{exit_record, shim_socket};
use crate::shim::Directories;

/// Where commands leave what outlives them.
#[derive(Debug, Clone)]
pub struct Places {
    /// Directory of the logs.
    pub log_dir: PathBuf,
    /// Directory in which the exit records have theirs.
    pub state_dir: PathBuf,
    /// Directory in which the sockets of the shims have theirs.
    pub runtime_dir: PathBuf,
}

impl From<wire::Directories> for Places {
    fn from(told: wire::Directories) -> Self {
        let path = |bytes: &Blob| PathBuf::from(OsStr::from_bytes(bytes));
        Places {
            log_dir: path(&told.log_dir),
            state_dir: path(&told.state_dir),
            runtime_dir: path(&told.runtime_dir),
        }
    }
}

impl Places {
    /// Makes what is not there, and opens it. Where escherd is another user, `group` is its group: it gets to read
    /// logs, to read and set aside exit records, and to reach shims. Nobody else gets in.
    pub(super) fn open(&self, group: Option<u32>) -> Result<Directories, LauncherError> {
        let exits = self.state_dir.join(exit_record::DIRECTORY);
        let shims = self.runtime_dir.join(shim_socket::DIRECTORY);
        let (exits_mode, shims_mode) = match group {
            None => (0o700, 0o700),
            // With the group passed on to what is made in there (inode(7)).
            Some(_) => (0o2770, 0o2750),
        };
        let log_dir_is_new = !self.log_dir.exists();
        let directories = Directories {
            logs: open(&self.log_dir, 0o750, 0)?,
            // Not through a link: what is above may be escherd's, and these are given away.
            exits: open(&exits, exits_mode, libc::O_NOFOLLOW)?,
            shims: open(&shims, shims_mode, libc::O_NOFOLLOW)?,
        };
        if let Some(group) = group {
            let own = |directory: &OwnedFd, path: &Path, mode| {
                give(directory, group, mode).map_err(|source| fail(path, source))
            };
            // One that was there is as its owner wants it.
            if log_dir_is_new {
                own(&directories.logs, &self.log_dir, 0o2750)?;
            }
            own(&directories.exits, &exits, exits_mode)?;
            own(&directories.shims, &shims, shims_mode)?;
        }
        Ok(directories)
    }
}

fn fail(path: &Path, source: io::Error) -> LauncherError {
    LauncherError::Directory {
        path: path.to_owned(),
        source,
    }
}

/// Opens a directory, making it if needed.
fn open(path: &Path, mode: u32, flags: i32) -> Result<OwnedFd, LauncherError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(mode).create(path);
    made.map_err(|source| fail(path, source))?;
    let directory = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | flags)
        .open(path)
        .map_err(|source| fail(path, source))?;
    Ok(directory.into())
}

fn give(directory: &OwnedFd, group: u32, mode: u32) -> io::Result<()> {
    fchown(directory, None, Some(Gid::from_raw(group)))?;
    fchmod(directory, Mode::from_bits_truncate(mode))?;
    Ok(())
}
