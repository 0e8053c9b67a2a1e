//! From a path to a connection that is ready for requests.

use std::io;
use std::path::PathBuf;
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

use crate::client::Client;
use crate::connection::Connection;
use crate::dial::dial;
use crate::error::{ConnectError, Violation};

/// How long connection and handshake may take unless [`Connector::deadline`] says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// How to connect: to which socket, under which name, how patiently.
#[derive(Debug, Clone)]
pub struct Connector {
    path: PathBuf,
    name: Text,
    deadline: Duration,
}

impl Connector {
    /// To the socket at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Connector {
            path: path.into(),
            name: concat!("escher-client ", env!("CARGO_PKG_VERSION")).into(),
            deadline: DEFAULT_DEADLINE,
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

    /// Connects.
    ///
    /// # Errors
    /// See [`ConnectError`]; each names the socket.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        match tokio::time::timeout(self.deadline, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::Timeout {
                path: self.path,
                after: self.deadline,
            }),
        }
    }

    async fn open(&self) -> Result<Client, ConnectError> {
        let mut stream = dial(&self.path, self.deadline).await?;
        let (welcome, rest) = greet(&mut stream, &Hello::new(self.name.clone()))
            .await
            .map_err(|failure| self.explain(failure))?;
        Ok(Client::new(Connection::start(stream, rest, welcome)))
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
