//! Connects to a Unix socket.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use tokio::net::UnixStream;

use crate::error::{ConnectError, MAX_SOCKET_PATH_BYTES};

/// Connects to `path`. While the listener's backlog is full, waits for up to `timeout`.
pub(crate) async fn connect_socket(
    path: &Path,
    timeout: Duration,
) -> Result<UnixStream, ConnectError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(ConnectError::PathTooLong {
            path: path.to_owned(),
        });
    }
    let connected = match UnixStream::connect(path).await {
        // A non-blocking connect(2) does not wait for space in the backlog, and no readiness event
        // reports it. A blocking connect(2) waits.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            connect_on_blocking_thread(path.to_owned(), timeout).await
        }
        connected => connected,
    };
    connected.map_err(|error| to_connect_error(path, error))
}

async fn connect_on_blocking_thread(path: PathBuf, timeout: Duration) -> io::Result<UnixStream> {
    let stream = tokio::task::spawn_blocking(move || connect_blocking(&path, timeout))
        .await
        .map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Connects with a send timeout, which bounds connect(2): the thread ends even if the listener never
/// accepts.
fn connect_blocking(path: &Path, timeout: Duration) -> io::Result<BlockingStream> {
    let socket = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    socket::setsockopt(
        &socket,
        sockopt::SendTimeout,
        &TimeVal::milliseconds(millis.max(1)),
    )?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(0))?;
    Ok(socket.into())
}

fn to_connect_error(path: &Path, source: io::Error) -> ConnectError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ConnectError::NoDaemon { path, source }
        }
        // connect(2) also reports ECONNREFUSED for files that are not sockets.
        io::ErrorKind::ConnectionRefused if !is_socket(&path) => ConnectError::NotASocket { path },
        io::ErrorKind::ConnectionRefused => ConnectError::NoDaemon { path, source },
        io::ErrorKind::PermissionDenied => ConnectError::PermissionDenied { path, source },
        _ if source.raw_os_error() == Some(nix::Error::EPROTOTYPE as i32) => {
            ConnectError::NotASocket { path }
        }
        _ => ConnectError::Io { path, source },
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}
