//! The client's side of the handshake.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use escher_protocol::ErrorCode;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::handshake::{
    HIGHEST_VERSION, Hello, HelloReply, LOWEST_VERSION, Refusal, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::error::{ConnectError, ProtocolViolation};

/// Why a handshake failed.
pub(crate) enum HandshakeError {
    Refused(Box<Refusal>),
    Violation(ProtocolViolation),
    Io(io::Error),
}

impl HandshakeError {
    /// Adds the path of the socket.
    pub(crate) fn into_connect_error(self, path: PathBuf) -> ConnectError {
        match self {
            HandshakeError::Refused(refusal)
                if refusal.error.code == ErrorCode::UNSUPPORTED_VERSION =>
            {
                ConnectError::VersionMismatch { path, refusal }
            }
            HandshakeError::Refused(refusal) => ConnectError::Refused { path, refusal },
            HandshakeError::Violation(violation) => ConnectError::Protocol { path, violation },
            HandshakeError::Io(source) => ConnectError::Io { path, source },
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        HandshakeError::Io(error)
    }
}

impl From<ProtocolViolation> for HandshakeError {
    fn from(violation: ProtocolViolation) -> Self {
        HandshakeError::Violation(violation)
    }
}

/// Sends `hello` and reads the reply. Returns it with the bytes that were read after it.
pub(crate) async fn handshake(
    stream: &mut UnixStream,
    hello: &Hello,
) -> Result<(Welcome, BytesMut), HandshakeError> {
    let codec = FrameCodec::<HelloReply>::handshake();
    let mut to_send = BytesMut::new();
    codec
        .encode_frame(hello, &mut to_send)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    // escherd may refuse a connection and close it without reading. Its reply then takes precedence
    // over the failed write.
    let sent = stream.write_all(&to_send).await;

    let mut received = BytesMut::new();
    let reply = loop {
        match codec.decode_frame(&mut received) {
            Ok(Some((reply, _))) => break reply,
            Ok(None) => {}
            Err(FrameError::Io(error)) => return Err(error.into()),
            Err(error) => return Err(ProtocolViolation::Frame(Arc::new(error)).into()),
        }
        match stream.read_buf(&mut received).await {
            Ok(0) => {
                return Err(match sent {
                    Err(error) => error.into(),
                    Ok(()) => ProtocolViolation::ConnectionClosed.into(),
                });
            }
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    };
    match reply {
        HelloReply::Welcome(welcome)
            if !(LOWEST_VERSION..=HIGHEST_VERSION).contains(&welcome.version) =>
        {
            Err(ProtocolViolation::VersionNotOffered(welcome.version).into())
        }
        HelloReply::Welcome(welcome) => Ok((welcome, received)),
        HelloReply::Refused(refusal) => Err(HandshakeError::Refused(Box::new(refusal))),
    }
}
