//! The socket on which a launcher accepts escherd. It outlives launchers and keepers.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{User, chown};

use crate::ipc::packet::is_listener;

/// Connections that may wait for a launcher. There is one escherd at a time.
const BACKLOG: i32 = 8;

/// Takes the socket that a predecessor has passed to this keeper as standard input, if one has.
///
/// # Errors
/// Those of duplicating a descriptor.
pub(super) fn inherited() -> io::Result<Option<OwnedFd>> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(Some(stdin).filter(|stdin| is_listener(stdin.as_fd())))
}

/// Creates the socket, which only root and escherd's group may use. It does not block.
///
/// # Errors
/// Those of the file system, and of bind(2) and listen(2).
pub(super) fn create(path: &Path, escherd: &User) -> io::Result<OwnedFd> {
    if let Some(directory) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(directory)?;
    }
    match fs::symlink_metadata(path) {
        // Left by a keeper that was killed.
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // Nobody else can connect before the group is set.
    let previous = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixAddr::new(path).and_then(|address| bind(listener.as_raw_fd(), &address));
    umask(previous);
    bound?;
    chown(path, None, Some(escherd.gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}
