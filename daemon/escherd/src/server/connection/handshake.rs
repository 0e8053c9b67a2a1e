//! The handshake, and refusals in place of one.

use std::io;

use bytes::BytesMut;
use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::codec::MAX_PAYLOAD_BYTES;
use escher_protocol::frame::FrameCodec;
use escher_protocol::handshake::{
    HIGHEST_VERSION, Hello, HelloReply, LOWEST_VERSION, MAGIC, Refusal, SessionLimits, Welcome,
};
use escher_protocol::{ApiError, ErrorCode};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::MAX_REQUESTS_IN_FLIGHT;
use super::frame_reader::{FrameReader, protocol_error};
use crate::api::ExecutionEngine;
use crate::server::ServerContext;
use crate::server::outbox::STREAM_WINDOW_BYTES;

/// Sends a peer the reason for which it is refused, if the socket takes it without waiting.
pub(in crate::server) fn refuse_at_once(stream: &UnixStream, error: ApiError) -> io::Result<()> {
    stream.try_write(&encode_refusal(error)?).map(drop)
}

/// Returns the bytes of a refusal.
pub(in crate::server) fn encode_refusal(error: ApiError) -> io::Result<BytesMut> {
    encode_hello_reply(&refusal(error))
}

fn refusal(error: ApiError) -> HelloReply {
    HelloReply::Refused(Refusal {
        error,
        lowest: LOWEST_VERSION,
        highest: HIGHEST_VERSION,
    })
}

fn encode_hello_reply(reply: &HelloReply) -> io::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    let codec = FrameCodec::<Hello>::handshake();
    match codec.encode_frame(reply, &mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Performs the handshake until `deadline`; `reader` may have read some bytes of it. Returns `None` if the peer was refused or has disconnected.
pub(super) async fn shake_hands(
    stream: &mut UnixStream,
    mut reader: FrameReader,
    deadline: Instant,
    credentials: PeerCredentials,
    context: &ServerContext,
) -> io::Result<Option<(ExecutionEngine, FrameReader)>> {
    let codec = FrameCodec::handshake();
    let hello = reader.next::<Hello>(stream, &codec);
    let hello = timeout_at(deadline, hello);
    let result = match hello.await {
        Err(_) => Err(ApiError::new(
            ErrorCode::IDLE,
            "the handshake took too long",
        )),
        Ok(Ok(None)) => return Ok(None),
        Ok(Ok(Some(hello))) => welcome(&hello, credentials, context).await,
        Ok(Err(error)) => Err(protocol_error(&error)),
    };
    match result {
        Ok((engine, welcome)) => {
            let reply = encode_hello_reply(&HelloReply::Welcome(welcome))?;
            stream.write_all(&reply).await?;
            Ok(Some((engine, reader)))
        }
        Err(error) => {
            let reply = encode_hello_reply(&refusal(error))?;
            stream.write_all(&reply).await?;
            Ok(None)
        }
    }
}

async fn welcome(
    hello: &Hello,
    credentials: PeerCredentials,
    context: &ServerContext,
) -> Result<(ExecutionEngine, Welcome), ApiError> {
    let version = hello
        .common_version()
        .ok_or_else(|| unsupported_version(hello))?;
    let engine = context.engine.authenticate(credentials).await?;
    let info = &context.static_info;
    let welcome = Welcome {
        version,
        daemon: format!("escherd {}", info.version).into(),
        instance: info.instance,
        limits: SessionLimits {
            max_frame_bytes: u32::try_from(MAX_PAYLOAD_BYTES).unwrap_or(u32::MAX),
            max_requests_in_flight: MAX_REQUESTS_IN_FLIGHT,
            stream_window_bytes: STREAM_WINDOW_BYTES,
        },
    };
    Ok((engine, welcome))
}

fn unsupported_version(hello: &Hello) -> ApiError {
    let client = hello.client.escape_debug();
    let message = if hello.magic == MAGIC {
        format!(
            "no protocol version in common: {client} speaks {} to {}, \
             escherd {LOWEST_VERSION} to {HIGHEST_VERSION}",
            hello.lowest, hello.highest,
        )
    } else {
        format!("{client} speaks another protocol than escherd")
    };
    ApiError::new(ErrorCode::UNSUPPORTED_VERSION, message).with_hint("update the older of the two")
}
