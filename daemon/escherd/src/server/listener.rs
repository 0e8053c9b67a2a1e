//! Creates a listening socket, where systemd does not provide one.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown, geteuid};
use tracing::warn;

use crate::config::SocketSettings;

/// The reason why the socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another escherd listens on the path.
    #[error("{path} is in use: another escherd serves there")]
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
    /// The path exists and is not a socket.
    #[error("{path} exists and is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot listen on {path}: {source}")]
    Failed {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// Listens on a new socket. Replaces the socket of an escherd that has ended, but not one on which
/// a process listens.
///
/// # Errors
/// See [`ListenError`].
pub fn bind(settings: &SocketSettings) -> Result<UnixListener, ListenError> {
    let path = settings.path.clone();
    remove_stale_socket(&path)?;
    let failed = |source| ListenError::Failed {
        path: path.clone(),
        source,
    };
    // The socket is created without access for others, and gets its permissions once it has its
    // group, so it never has more. The umask applies to the whole process, in which no other task
    // creates files yet.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&path);
    nix::sys::stat::umask(umask);
    let listener = listener.map_err(failed)?;
    if let Some(group) = &settings.group {
        set_group(&path, group).map_err(failed)?;
    }
    let permissions = std::fs::Permissions::from_mode(settings.mode);
    std::fs::set_permissions(&path, permissions).map_err(failed)?;
    Ok(listener)
}

fn remove_stale_socket(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Failed {
        path: path.to_owned(),
        source,
    };
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) => metadata.file_type(),
    };
    if !kind.is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
        });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenError::SocketInUse {
            path: path.to_owned(),
        }),
        Err(_) => std::fs::remove_file(path).map_err(failed),
    }
}

fn set_group(path: &Path, name: &str) -> io::Result<()> {
    match Group::from_name(name)? {
        Some(group) => Ok(chown(path, None, Some(group.gid))?),
        None => {
            let owner = geteuid();
            warn!(group = name, %owner, "no such group: only the owner can use the socket");
            Ok(())
        }
    }
}
