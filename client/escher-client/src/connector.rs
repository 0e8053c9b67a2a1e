//! From a path to a connection that is ready for requests.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::handshake::{
    HIGHEST_VERSION, Hello, HelloReply, LOWEST_VERSION, Refusal, Welcome,
};
use escher_protocol::{ErrorCode, Text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::client::Client;
use crate::connection::Connection;
use crate::dial::dial;
use crate::error::{ConnectError, Error, Violation};
use crate::reconnect::reconnect;
use crate::session::Session;

/// How long connection and handshake may take unless [`Connector::deadline`] says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client waits for an escherd that went away unless [`Connector::reconnect_within`] says
/// otherwise.
pub const DEFAULT_RECONNECT: Duration = Duration::from_secs(60);

/// How to connect: to which socket, under which name, how patiently, and what to do when escherd goes
/// away.
#[derive(Debug, Clone)]
pub struct Connector {
    path: PathBuf,
    name: Text,
    deadline: Duration,
    reconnect_within: Duration,
    listener: Listener,
}

impl Connector {
    /// To the socket at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Connector {
            path: path.into(),
            name: concat!("escher-client ", env!("CARGO_PKG_VERSION")).into(),
            deadline: DEFAULT_DEADLINE,
            reconnect_within: DEFAULT_RECONNECT,
            listener: Listener::default(),
        }
    }

    /// Who connects, for escherd's log: `backup 2.1`. Says nothing about authority, and has to fit
    /// into the handshake's frame of 4 KiB.
    #[must_use]
    pub fn name(mut self, name: impl Into<Text>) -> Self {
        self.name = name.into();
        self
    }

    /// How long connection and handshake together may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long the client waits for an escherd that goes away later, from the first request that
    /// finds it gone; then that request, and every other that waits, fails with
    /// [`Error::DaemonGone`]. Zero: it does not wait and does not connect
    /// again; what is under way fails with [`Error::Disconnected`].
    #[must_use]
    pub fn reconnect_within(mut self, patience: Duration) -> Self {
        self.reconnect_within = patience;
        self
    }

    /// Whom to tell that escherd is being waited for. Called by a task of the client's, so it should
    /// not take long.
    #[must_use]
    pub fn on_outage(mut self, listener: impl Fn(Outage) + Send + Sync + 'static) -> Self {
        self.listener = Listener(Some(Arc::new(listener)));
        self
    }

    /// Connects. Without an escherd there it fails at once; only one that goes away later is waited for,
    /// or while it says hello: it was there, and is being restarted.
    ///
    /// # Errors
    /// See [`ConnectError`]; each names the socket.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let connection = match self.open(self.deadline).await {
            Err(error) if error.is_cut_off() && !self.reconnect_within.is_zero() => {
                match reconnect(&self, Instant::now(), false).await {
                    Ok(connection) => connection,
                    Err(Error::DaemonGone { source, .. }) => {
                        return Err(Arc::into_inner(source).unwrap_or(error));
                    }
                    Err(_) => return Err(error),
                }
            }
            opened => opened?,
        };
        Ok(Client::new(Session::new(self, connection)))
    }

    /// One attempt, which may take so long.
    pub(crate) async fn open(&self, patience: Duration) -> Result<Arc<Connection>, ConnectError> {
        match tokio::time::timeout(patience, self.dial_and_greet(patience)).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::Timeout {
                path: self.path.clone(),
                after: patience,
            }),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.path
    }

    /// How long one attempt may take.
    pub(crate) fn attempt_deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn patience(&self) -> Duration {
        self.reconnect_within
    }

    pub(crate) fn tell(&self, outage: Outage) {
        if let Some(listener) = &self.listener.0 {
            listener(outage);
        }
    }

    async fn dial_and_greet(&self, patience: Duration) -> Result<Arc<Connection>, ConnectError> {
        let mut stream = dial(&self.path, patience).await?;
        let (welcome, rest) = greet(&mut stream, &Hello::new(self.name.clone()))
            .await
            .map_err(|failure| self.explain(failure))?;
        Ok(Connection::start(stream, rest, welcome))
    }

    fn explain(&self, failure: HandshakeFailure) -> ConnectError {
        let path = self.path.clone();
        match failure {
            HandshakeFailure::Refused(refusal)
                if refusal.error.code == ErrorCode::UNSUPPORTED_VERSION =>
            {
                ConnectError::VersionMismatch { path, refusal }
            }
            HandshakeFailure::Refused(refusal) => ConnectError::Refused { path, refusal },
            HandshakeFailure::Violation(violation) => ConnectError::Protocol { path, violation },
            HandshakeFailure::Io(source) => ConnectError::Io { path, source },
        }
    }
}

/// What happens while escherd is away. One that is back before the first attempt to reach it again is
/// not told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outage {
    /// It cannot be reached, and is waited for.
    Began,
    /// It is back; what waited goes on.
    Ended,
    /// It did not come back in time, or what came back cannot be talked to.
    GivenUp,
}

#[derive(Clone, Default)]
struct Listener(Option<Arc<dyn Fn(Outage) + Send + Sync>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "set" } else { "none" })
    }
}

enum HandshakeFailure {
    Refused(Box<Refusal>),
    Violation(Violation),
    Io(io::Error),
}

impl From<io::Error> for HandshakeFailure {
    fn from(error: io::Error) -> Self {
        HandshakeFailure::Io(error)
    }
}

/// Says hello and reads the answer. What came after it is returned with it.
async fn greet(
    stream: &mut UnixStream,
    hello: &Hello,
) -> Result<(Welcome, BytesMut), HandshakeFailure> {
    let codec = FrameCodec::<HelloReply>::handshake();
    let mut outgoing = BytesMut::new();
    codec
        .encode_frame(hello, &mut outgoing)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    // One that refuses may hang up before it has read: its answer counts, not the failed write.
    let sent = stream.write_all(&outgoing).await;

    let mut incoming = BytesMut::new();
    let reply = loop {
        match codec.decode_frame(&mut incoming) {
            Ok(Some((reply, _))) => break reply,
            Ok(None) => {}
            Err(FrameError::Io(error)) => return Err(error.into()),
            Err(error) => return Err(violation(Violation::Frame(Arc::new(error)))),
        }
        match stream.read_buf(&mut incoming).await {
            Ok(0) => return Err(sent.err().map_or(violation(Violation::HungUp), Into::into)),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    };
    match reply {
        HelloReply::Welcome(welcome)
            if !(LOWEST_VERSION..=HIGHEST_VERSION).contains(&welcome.version) =>
        {
            Err(violation(Violation::Version(welcome.version)))
        }
        HelloReply::Welcome(welcome) => Ok((welcome, incoming)),
        HelloReply::Refused(refusal) => Err(HandshakeFailure::Refused(Box::new(refusal))),
    }
}

fn violation(violation: Violation) -> HandshakeFailure {
    HandshakeFailure::Violation(violation)
}
