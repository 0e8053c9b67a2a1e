//! Creates a listening socket, where systemd does not provide one.

use std::fs::Permissions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::unistd::{Group, chown, geteuid};
use tracing::warn;

use crate::config::SocketSettings;

/// Longest path of a socket in bytes: `sun_path` with its NUL has 108 (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

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
    /// The path is too long for a socket (unix(7)).
    #[error("{path}: the path of a socket has at most {MAX_SOCKET_PATH_BYTES} bytes, and this has {bytes}",
        bytes = .path.as_os_str().len())]
    PathTooLong {
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
    if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(ListenError::PathTooLong { path });
    }
    remove_stale_socket(&path)?;
    let failed = |source| ListenError::Failed {
        path: path.clone(),
        source,
    };
    bind_closed(settings).map_err(failed)
}

/// Listens once the socket has its group and permissions: before listen(2) nobody can connect, so it
/// is never open to more users than it should be, whatever the umask.
fn bind_closed(settings: &SocketSettings) -> io::Result<UnixListener> {
    let path = &settings.path;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    if let Some(group) = &settings.group {
        set_group(path, group)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(settings.mode))?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_socket_has_a_limit_which_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let name_bytes = MAX_SOCKET_PATH_BYTES - directory.path().as_os_str().len() - 1;
        let bind_with = |length| {
            bind(&SocketSettings {
                path: directory.path().join("x".repeat(length)),
                mode: 0o600,
                group: None,
            })
        };
        assert!(bind_with(name_bytes).is_ok());
        let error = bind_with(name_bytes + 1).unwrap_err().to_string();
        assert!(
            error.ends_with("has at most 107 bytes, and this has 108"),
            "{error}"
        );
    }

    #[test]
    fn a_socket_has_its_permissions_whatever_the_umask_which_stays() {
        let umask = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("Umask:"));
            line.unwrap().to_owned()
        };
        let before = umask();
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o660, 0o666] {
            let settings = SocketSettings {
                path: directory.path().join(format!("{mode:o}.sock")),
                mode,
                group: None,
            };
            let listener = bind(&settings).unwrap();
            let permissions = settings.path.metadata().unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode);
            let _connected = std::os::unix::net::UnixStream::connect(&settings.path).unwrap();
            assert!(listener.accept().is_ok());
            assert!(matches!(
                bind(&settings),
                Err(ListenError::SocketInUse { .. })
            ));
            drop(listener);
            // The socket of an escherd that has ended is replaced.
            assert!(bind(&settings).is_ok());
        }
        assert_eq!(umask(), before);
    }
}
