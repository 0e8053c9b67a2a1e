//! One connection of a client, from its first frame to its end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::codec::MAX_PAYLOAD_BYTES;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::handshake::{
    HIGHEST_VERSION, Hello, HelloReply, LOWEST_VERSION, MAGIC, Refusal, SessionLimits, Welcome,
};
use escher_protocol::{ApiError, ClientFrame, ErrorCode, Request, RequestId, ServerFrame};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug};

use super::outbox::{Outbox, STREAM_WINDOW_BYTES, Window, write_frames};
use super::{ServerContext, requests, until_closing};
use crate::api::ExecutionEngine;

/// Timeout for a peer to send its first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for the rest of a frame after its first byte, and for writing the last frames.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of requests in flight on one connection.
const MAX_REQUESTS_IN_FLIGHT: u32 = 256;

/// Capacity of the read buffer, at first and again after a large frame.
const READ_BUFFER_BYTES: usize = 4096;

/// Serves a connection to its end.
pub(super) async fn serve(
    mut stream: UnixStream,
    credentials: PeerCredentials,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) {
    let handshake = tokio::select! {
        handshake = shake_hands(&mut stream, credentials, &context) => handshake,
        () = until_closing(&mut closing) => return,
    };
    match handshake {
        Ok(Some((engine, reader))) => {
            debug!("handshake done");
            let connection = EstablishedConnection::new(engine, context);
            let result = connection.serve(stream, reader, closing).await;
            if let Err(error) = result {
                debug!(%error, "the connection failed");
            }
        }
        Ok(None) => {}
        Err(error) => debug!(%error, "the handshake failed"),
    }
}

/// Sends a peer the reason for which it is refused, if the socket takes it without waiting.
pub(super) fn refuse_at_once(stream: &UnixStream, error: ApiError) -> io::Result<()> {
    let refusal = encode_hello_reply(&refusal(error))?;
    stream.try_write(&refusal).map(drop)
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

/// Performs the handshake. Returns `None` if the peer was refused or has disconnected.
async fn shake_hands(
    stream: &mut UnixStream,
    credentials: PeerCredentials,
    context: &ServerContext,
) -> io::Result<Option<(ExecutionEngine, FrameReader)>> {
    let mut reader = FrameReader::default();
    let codec = FrameCodec::handshake();
    let hello = reader.next::<Hello>(stream, &codec);
    let hello = timeout_at(Instant::now() + HELLO_TIMEOUT, hello);
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

fn protocol_error(error: &FrameError) -> ApiError {
    let code = match error {
        FrameError::TooLarge { .. } => ErrorCode::FRAME_TOO_LARGE,
        FrameError::Io(source) if source.kind() == io::ErrorKind::TimedOut => ErrorCode::IDLE,
        FrameError::Codec(_) | FrameError::Io(_) => ErrorCode::PROTOCOL,
    };
    ApiError::new(code, error.to_string())
}

/// A request in flight.
struct InFlight {
    task: AbortHandle,
    window: Arc<Window>,
}

/// A connection after the handshake.
struct EstablishedConnection {
    /// The engine with the client's authority.
    engine: ExecutionEngine,
    context: Arc<ServerContext>,
    in_flight: HashMap<RequestId, InFlight>,
    tasks: JoinSet<RequestId>,
}

impl EstablishedConnection {
    fn new(engine: ExecutionEngine, context: Arc<ServerContext>) -> Self {
        EstablishedConnection {
            engine,
            context,
            in_flight: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Serves requests until the client closes the connection or violates the protocol. Requests in
    /// flight are abandoned then; their effects stay.
    async fn serve(
        mut self,
        stream: UnixStream,
        mut reader: FrameReader,
        mut closing: watch::Receiver<bool>,
    ) -> Result<(), FrameError> {
        let codec = FrameCodec::<ClientFrame>::established();
        let (mut incoming, outgoing) = stream.into_split();
        let (outbox, waiting) = Outbox::new();
        let mut writer = tokio::spawn(write_frames(outgoing, waiting));
        let result = loop {
            tokio::select! {
                frame = reader.next::<ClientFrame>(&mut incoming, &codec) => match frame {
                    Ok(Some(frame)) => self.handle_frame(frame, &outbox).await,
                    Ok(None) => break Ok(()),
                    Err(error) => {
                        // An id that no request has: the error concerns the connection.
                        let reason = ServerFrame::End {
                            id: RequestId(u64::MAX),
                            result: Err(protocol_error(&error)),
                        };
                        let _ = outbox.send(&reason).await;
                        break Err(error);
                    }
                },
                Some(ended) = self.tasks.join_next() => self.remove_answered(ended),
                () = until_closing(&mut closing) => {
                    // The scheduler has stopped, so every request is answered, at least with an
                    // error.
                    while self.tasks.join_next().await.is_some() {}
                    break Ok(());
                }
                _ = &mut writer => return Ok(()),
            }
        };
        self.tasks.shutdown().await;
        drop(outbox);
        // The last frames are still written, unless the client does not read.
        let _ = timeout_at(Instant::now() + FRAME_TIMEOUT, &mut writer).await;
        writer.abort();
        result
    }

    async fn handle_frame(&mut self, frame: ClientFrame, outbox: &Outbox) {
        match frame {
            ClientFrame::Request { id, body } => self.begin_request(id, body, outbox).await,
            ClientFrame::Grant { id, bytes } => {
                if let Some(request) = self.in_flight.get(&id) {
                    request.window.grant(bytes);
                }
            }
            ClientFrame::Abandon { id } => {
                if let Some(request) = self.in_flight.remove(&id) {
                    request.task.abort();
                }
            }
        }
    }

    /// Removes an answered request from those in flight. An abandoned one was removed before, and
    /// its id may have been used for a new request since.
    fn remove_answered(&mut self, ended: Result<RequestId, JoinError>) {
        if let Ok(id) = ended
            && let Some(request) = self.in_flight.get(&id)
            && request.task.is_finished()
        {
            self.in_flight.remove(&id);
        }
    }

    async fn begin_request(&mut self, id: RequestId, body: Request, outbox: &Outbox) {
        // A client may have read an answer, and use the id again, before the end of the request's
        // task is noticed here.
        while let Some(ended) = self.tasks.try_join_next() {
            self.remove_answered(ended);
        }
        let refusal = if self.in_flight.len() >= MAX_REQUESTS_IN_FLIGHT as usize {
            let message =
                format!("{MAX_REQUESTS_IN_FLIGHT} requests are in flight on this connection");
            Some(ApiError::new(ErrorCode::TOO_MANY_REQUESTS, message))
        } else if self.in_flight.contains_key(&id) {
            let message = format!("the request id {} is in use", id.0);
            Some(ApiError::new(ErrorCode::PROTOCOL, message))
        } else {
            None
        };
        if let Some(error) = refusal {
            // A reply and not an end, because a stream with the same id goes on.
            let result = Err(error);
            let _ = outbox.send(&ServerFrame::Reply { id, result }).await;
            return;
        }
        let window = Arc::new(Window::default());
        let answer = requests::answer_request(
            id,
            body,
            self.engine.clone(),
            self.context.clone(),
            outbox.clone(),
            window.clone(),
        );
        let answer = async move {
            answer.await;
            id
        };
        let task = self.tasks.spawn(answer.in_current_span());
        self.in_flight.insert(id, InFlight { task, window });
    }
}

/// Reads frames from a socket. The buffer grows as bytes arrive.
#[derive(Default)]
struct FrameReader {
    buffer: BytesMut,
    /// When the first byte of an incomplete frame was read.
    frame_begun: Option<Instant>,
}

/// The readable end of a connection, before and after the handshake.
trait Incoming: tokio::io::AsyncRead + Unpin {}
impl Incoming for UnixStream {}
impl Incoming for OwnedReadHalf {}

impl FrameReader {
    /// Returns the contents of the next frame; `None` when the peer has closed the connection.
    /// Cancel-safe.
    async fn next<T: DeserializeOwned>(
        &mut self,
        socket: &mut impl Incoming,
        codec: &FrameCodec<T>,
    ) -> Result<Option<T>, FrameError> {
        loop {
            if let Some((frame, _)) = codec.decode_frame(&mut self.buffer)? {
                self.frame_begun = None;
                if self.buffer.is_empty() && self.buffer.capacity() > READ_BUFFER_BYTES {
                    self.buffer = BytesMut::new();
                }
                return Ok(Some(frame));
            }
            if self.buffer.is_empty() {
                self.frame_begun = None;
                self.buffer.reserve(READ_BUFFER_BYTES);
            } else {
                self.frame_begun.get_or_insert_with(Instant::now);
            }
            let read = socket.read_buf(&mut self.buffer);
            let count = match self.frame_begun {
                None => read.await?,
                Some(begun) => match timeout_at(begun + FRAME_TIMEOUT, read).await {
                    Ok(count) => count?,
                    Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                },
            };
            match (count, self.buffer.is_empty()) {
                (0, true) => return Ok(None),
                (0, false) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                _ => {}
            }
        }
    }
}
