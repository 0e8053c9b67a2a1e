//! The listening socket, when systemd does not bring it.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown, geteuid};
use tracing::warn;

use crate::config::SocketSettings;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another escherd answers at the path.
    #[error("{path} is in use: another escherd serves there")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket is at the path.
    #[error("{path} is there and is no socket; it is left alone")]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Failed {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens on a new socket. One that an escherd has left behind is replaced; one that is served is not.
///
/// # Errors
/// [`ListenError`].
pub fn bind(settings: &SocketSettings) -> Result<UnixListener, ListenError> {
    let path = settings.path.clone();
    clear_the_way(&path)?;
    let failed = |source| ListenError::Failed {
        path: path.clone(),
        source,
    };
    // Made for nobody, then opened to its users: there is no moment with more than that. The umask is
    // the whole process's, and this runs before any task that makes files.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&path);
    nix::sys::stat::umask(umask);
    let listener = listener.map_err(failed)?;
    if let Some(group) = &settings.group {
        give_to_group(&path, group).map_err(failed)?;
    }
    let permissions = std::fs::Permissions::from_mode(settings.mode);
    std::fs::set_permissions(&path, permissions).map_err(failed)?;
    Ok(listener)
}

fn clear_the_way(path: &Path) -> Result<(), ListenError> {
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
        return Err(ListenError::Occupied {
            path: path.to_owned(),
        });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse {
            path: path.to_owned(),
        }),
        Err(_) => std::fs::remove_file(path).map_err(failed),
    }
}

fn give_to_group(path: &Path, name: &str) -> io::Result<()> {
    match Group::from_name(name)? {
        Some(group) => Ok(chown(path, None, Some(group.gid))?),
        None => {
            let owner = geteuid();
            warn!(group = name, %owner, "there is no such group: only the owner's own can use the socket");
            Ok(())
        }
    }
}
