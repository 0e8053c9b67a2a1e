//! Errors of connecting, requests and streams.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use escher_protocol::frame::FrameError;
use escher_protocol::handshake::{HIGHEST_VERSION, LOWEST_VERSION, Refusal};
use escher_protocol::{ApiError, ErrorCode};

/// Longest path of a socket in bytes: `sun_path` with its NUL has 108 (unix(7)).
pub(crate) const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing listens on the socket: the file is missing, or no process has it open.
    #[error("no escherd listens at {}", path.display())]
    NoDaemon {
        /// The path of the socket.
        path: PathBuf,
        /// The error of connect(2).
        source: io::Error,
    },
    /// This user may not connect to the socket, or may not search a directory above it.
    #[error("no permission to connect to {}", path.display())]
    PermissionDenied {
        /// The path of the socket.
        path: PathBuf,
        /// The error of connect(2).
        source: io::Error,
    },
    /// The socket is in a directory of the temporary one that others could have created, or could change.
    /// An escherd there may be somebody else's.
    #[error("{source}")]
    UntrustedDirectory {
        /// The path of the socket.
        path: PathBuf,
        /// What is wrong with the directory.
        source: io::Error,
    },
    /// Neither the system's escherd can be used nor the user's own.
    #[error("{system}, and {own}")]
    NeitherUsable {
        /// Why the system's escherd cannot be used.
        system: Box<ConnectError>,
        /// Why the user's own escherd cannot be used.
        own: Box<ConnectError>,
    },
    /// The path exists and is not a stream socket.
    #[error("{} is not a socket of escherd", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path is too long for a socket (unix(7)).
    #[error("{}: the path of a socket has at most {MAX_SOCKET_PATH_BYTES} bytes, and this has {}",
        path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// escherd and this program have no protocol version in common.
    #[error(
        "escherd at {} speaks protocol versions {} to {}, this program {LOWEST_VERSION} to {HIGHEST_VERSION}",
        path.display(), refusal.lowest, refusal.highest
    )]
    VersionMismatch {
        /// The path of the socket.
        path: PathBuf,
        /// The answer of escherd.
        refusal: Box<Refusal>,
    },
    /// escherd refused the connection.
    #[error("escherd at {} refused the connection: {}", path.display(), refusal.error)]
    Refused {
        /// The path of the socket.
        path: PathBuf,
        /// The answer of escherd.
        refusal: Box<Refusal>,
    },
    /// The process behind the socket does not follow escher's protocol.
    #[error("protocol error during the handshake with {}: {violation}", path.display())]
    Protocol {
        /// The path of the socket.
        path: PathBuf,
        /// The violation.
        violation: ProtocolViolation,
    },
    /// Connecting, including the handshake, exceeded
    /// [`Connector::connect_timeout`](crate::Connector::connect_timeout).
    #[error("escherd at {} did not answer within {} ms", path.display(), timeout.as_millis())]
    Timeout {
        /// The path of the socket.
        path: PathBuf,
        /// The timeout that expired.
        timeout: Duration,
    },
    /// Any other system error.
    #[error("cannot connect to {}: {source}", path.display())]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether a process accepted the connection and closed it during the handshake.
    pub(crate) fn is_closed_during_handshake(&self) -> bool {
        match self {
            ConnectError::Protocol { violation, .. } => {
                matches!(violation, ProtocolViolation::ConnectionClosed)
            }
            ConnectError::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ),
            _ => false,
        }
    }

    /// Whether there is nothing to connect to, or this user may not: another socket may be used.
    pub(crate) fn is_of_unusable_socket(&self) -> bool {
        match self {
            ConnectError::NoDaemon { source, .. } => {
                source.kind() != io::ErrorKind::ConnectionRefused
            }
            ConnectError::PermissionDenied { .. } => true,
            _ => false,
        }
    }

    /// Whether an escherd is missing that may still come.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            ConnectError::NoDaemon { .. } => true,
            ConnectError::NeitherUsable { system, own } => system.is_absence() || own.is_absence(),
            _ => false,
        }
    }

    /// Returns the path of the socket; of the system's if neither can be used.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            ConnectError::NeitherUsable { system, .. } => system.path(),
            ConnectError::NoDaemon { path, .. }
            | ConnectError::PermissionDenied { path, .. }
            | ConnectError::UntrustedDirectory { path, .. }
            | ConnectError::NotASocket { path }
            | ConnectError::PathTooLong { path }
            | ConnectError::VersionMismatch { path, .. }
            | ConnectError::Refused { path, .. }
            | ConnectError::Protocol { path, .. }
            | ConnectError::Timeout { path, .. }
            | ConnectError::Io { path, .. } => path,
        }
    }
}

/// Why a request failed, or a stream ended early.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// escherd refused the request; or, with the code `unsupported`, a record needs a newer version of
    /// this library to be understood.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The connection was lost. A request that was in flight may or may not have been carried out.
    #[error("the connection to escherd is lost: {0}")]
    Disconnected(Arc<io::Error>),
    /// The connection was lost, and escherd could not be reached again within
    /// [`Connector::reconnect_timeout`](crate::Connector::reconnect_timeout).
    ///
    /// A request that was in flight may or may not have been carried out. Commands that escherd had
    /// accepted keep running; their state can be queried once escherd is reachable.
    #[error("escherd is unavailable; gave up reconnecting after {} ms: {source}", waited.as_millis())]
    DaemonUnavailable {
        /// The path of the socket.
        path: PathBuf,
        /// How long the client tried to reconnect.
        waited: Duration,
        /// The error of the last attempt.
        source: Arc<ConnectError>,
    },
    /// escherd violated the protocol. The connection is unusable, and so is the client.
    #[error("escherd violated the protocol: {0}")]
    Protocol(ProtocolViolation),
    /// A list of the request is longer than the protocol allows, for example its arguments. It was not sent.
    #[error("a list in the request is too long: {length} elements, where {limit} are allowed")]
    ListTooLong {
        /// The length of the list.
        length: usize,
        /// The maximum length of a list.
        limit: usize,
    },
    /// The request is longer than escherd accepts: a submission may have 8 MiB, any other request
    /// 128 KiB. It was not sent.
    #[error("the request is too large: {length} bytes, where {limit} are allowed")]
    RequestTooLarge {
        /// The length of the encoded request in bytes.
        length: usize,
        /// The maximum length of such a request in bytes.
        limit: usize,
    },
}

impl Error {
    /// Returns the error that escherd answered with, if this is one.
    #[must_use]
    pub fn as_api(&self) -> Option<&ApiError> {
        match self {
            Error::Api(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the connection ended without a fault, so that the next one can serve the request.
    pub(crate) fn is_connection_loss(&self) -> bool {
        match self {
            Error::Disconnected(_) => true,
            // A stopping escherd answers this to the requests that it does not finish.
            Error::Api(error) => error.code == ErrorCode::SHUTTING_DOWN,
            _ => false,
        }
    }

    /// The task that would have answered is gone: its runtime was shut down.
    pub(crate) fn connection_aborted() -> Self {
        Error::Disconnected(Arc::new(io::ErrorKind::ConnectionAborted.into()))
    }

    pub(crate) fn unexpected_response(expected: &'static str, received: &'static str) -> Self {
        Error::Protocol(ProtocolViolation::UnexpectedResponse { expected, received })
    }
}

/// How the other side violated the protocol.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolViolation {
    /// A frame is too long, or does not hold a valid message.
    #[error("{0}")]
    Frame(Arc<FrameError>),
    /// A response is of another type than the request asks for.
    #[error("expected {expected}, received {received}")]
    UnexpectedResponse {
        /// The type that the request asks for.
        expected: &'static str,
        /// The type that was received.
        received: &'static str,
    },
    /// A stream exceeded its flow control window.
    #[error("a stream exceeded its window of {window} bytes by an item of {length} bytes")]
    WindowExceeded {
        /// The payload length of the item that exceeded the window.
        length: usize,
        /// The size of the window in bytes.
        window: u32,
    },
    /// The handshake selected a protocol version that this program did not offer.
    #[error("selected protocol version {0}, which was not offered")]
    VersionNotOffered(u16),
    /// The connection was closed during the handshake.
    #[error("connection closed during the handshake")]
    ConnectionClosed,
}
