//! What can go wrong between a program and escherd.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use escher_protocol::frame::FrameError;
use escher_protocol::handshake::{HIGHEST_VERSION, LOWEST_VERSION, Refusal};
use escher_protocol::{ApiError, ErrorCode};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing listens there: no such file, or nobody behind the socket.
    #[error("no escherd listens at {}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket, or a directory above it, is closed to this user.
    #[error("no permission to connect to {}", path.display())]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something, but it is no stream socket.
    #[error("{} is not a socket of escherd", path.display())]
    NotASocket {
        /// What was taken for the socket.
        path: PathBuf,
    },
    /// escherd and this program have no version of the protocol in common.
    #[error(
        "escherd at {} speaks protocol versions {} to {}, this program {LOWEST_VERSION} to {HIGHEST_VERSION}",
        path.display(), refusal.lowest, refusal.highest
    )]
    VersionMismatch {
        /// The socket.
        path: PathBuf,
        /// What escherd answered.
        refusal: Box<Refusal>,
    },
    /// escherd does not want this connection.
    #[error("escherd at {} refused the connection: {}", path.display(), refusal.error)]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What escherd answered.
        refusal: Box<Refusal>,
    },
    /// Whatever answered is not escherd, or a broken one.
    #[error("what listens at {} does not speak escher's protocol: {violation}", path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What it did.
        violation: Violation,
    },
    /// Connection and handshake took too long.
    #[error("escherd at {} did not answer within {} ms", path.display(), after.as_millis())]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// The deadline.
        after: Duration,
    },
    /// Anything else that the system may say.
    #[error("cannot connect to {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether somebody was there and hung up before the handshake was done.
    pub(crate) fn is_cut_off(&self) -> bool {
        match self {
            ConnectError::Protocol { violation, .. } => matches!(violation, Violation::HungUp),
            ConnectError::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ),
            _ => false,
        }
    }

    /// The socket that was to be connected to.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            ConnectError::NoDaemon { path, .. }
            | ConnectError::PermissionDenied { path, .. }
            | ConnectError::NotASocket { path }
            | ConnectError::VersionMismatch { path, .. }
            | ConnectError::Refused { path, .. }
            | ConnectError::Protocol { path, .. }
            | ConnectError::Timeout { path, .. }
            | ConnectError::Io { path, .. } => path,
        }
    }
}

/// Why a request has no answer, or a stream ended early.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// escherd understood, and says no; or (`unsupported`) it answered with a record that cannot be
    /// understood without a newer version of this library.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The connection is gone. Whether a request that was under way has been carried out is not known.
    #[error("the connection to escherd is lost: {0}")]
    Disconnected(Arc<io::Error>),
    /// escherd went away and did not come back in time. A command that it had accepted goes on without
    /// it; ask again once it is back. Whether a request that was under way has been carried out is not
    /// known.
    #[error("escherd went away and could not be reached again within {} ms: {source}", after.as_millis())]
    DaemonGone {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        after: Duration,
        /// What the last attempt to reach it met with.
        source: Arc<ConnectError>,
    },
    /// escherd said something that the protocol does not allow; the connection is of no use any more.
    #[error("escherd broke the protocol: {0}")]
    Protocol(Violation),
    /// The request does not fit into a frame. It was not sent.
    #[error("the request is too large: {length} bytes, where {limit} are allowed")]
    RequestTooLarge {
        /// Its encoded length in bytes.
        length: usize,
        /// The most that escherd takes.
        limit: usize,
    },
}

impl Error {
    /// What escherd said, where it said something.
    #[must_use]
    pub fn as_api(&self) -> Option<&ApiError> {
        match self {
            Error::Api(error) => Some(error),
            _ => None,
        }
    }

    /// Whether this is how a connection ends with which nothing was wrong: the next one may have the
    /// answer.
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            Error::Disconnected(_) => true,
            // An escherd that stops says so to what it can no longer answer.
            Error::Api(error) => error.code == ErrorCode::SHUTTING_DOWN,
            _ => false,
        }
    }
}

/// How the other side broke the protocol.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that is too long, or no message.
    #[error("{0}")]
    Frame(Arc<FrameError>),
    /// An answer of another kind than the request has.
    #[error("{got} came as the answer to a request for {wanted}")]
    WrongAnswer {
        /// What was asked for.
        wanted: &'static str,
        /// What came.
        got: &'static str,
    },
    /// A stream went on after its window was used up.
    #[error("a stream sent {length} bytes more than its window of {window}")]
    WindowExceeded {
        /// Payload of the item that was too much.
        length: usize,
        /// The window in bytes.
        window: u32,
    },
    /// A version was chosen that this program did not offer.
    #[error("it chose protocol version {0}, which was not offered")]
    Version(u16),
    /// The connection was closed before the handshake was done.
    #[error("it hung up during the handshake")]
    HungUp,
}
