//! Reaching a listening socket, and telling why it cannot be reached.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use tokio::net::UnixStream;

use crate::error::ConnectError;

/// Connects to `path`. When the listener's backlog is full, waits for room for up to `patience`.
pub(crate) async fn dial(path: &Path, patience: Duration) -> Result<UnixStream, ConnectError> {
    let dialled = match UnixStream::connect(path).await {
        // A non-blocking connect(2) does not wait for room in the backlog and no event tells of it;
        // a blocking one does.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            dial_patiently(path.to_owned(), patience).await
        }
        dialled => dialled,
    };
    dialled.map_err(|error| explain(path, error))
}

async fn dial_patiently(path: PathBuf, patience: Duration) -> io::Result<UnixStream> {
    let stream = tokio::task::spawn_blocking(move || dial_blocking(&path, patience))
        .await
        .map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// The send timeout bounds connect(2), so that the thread ends even if nobody ever accepts.
fn dial_blocking(path: &Path, patience: Duration) -> io::Result<BlockingStream> {
    let socket = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    socket::setsockopt(
        &socket,
        sockopt::SendTimeout,
        &TimeVal::milliseconds(millis.max(1)),
    )?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(0))?;
    Ok(socket.into())
}

fn explain(path: &Path, source: io::Error) -> ConnectError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ConnectError::NoDaemon { path, source }
        }
        // connect(2) says "refused" of anything that is there and no socket, too.
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
