//! One connection of a client, from its first frame to its end.

use std::collections::HashMap;
use std::future::poll_fn;
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
use escher_protocol::message::FAREWELL_ID;
use escher_protocol::{ApiError, ClientFrame, ErrorCode, Request, RequestId, ServerFrame};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug};

use super::memory::{Charge, PendingCharge, UserMemory};
use super::outbox::{Outbox, STREAM_WINDOW_BYTES, Window, write_frames};
use super::requests::{self, Requester};
use super::{ServerContext, until_closing};
use crate::api::ExecutionEngine;
use crate::turns::{PendingTurn, Turn, Turns};

/// Timeout for a peer to send its first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for the rest of a frame after its first byte, for room in memory for it, and for writing
/// the last frames.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of requests in flight on one connection.
const MAX_REQUESTS_IN_FLIGHT: u32 = 256;

/// Capacity of the read buffer, at first and again after a large frame. Longer frames are charged to
/// the memory of their user before more of them is read.
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
            let result = serve_requests(stream, reader, engine, context, closing).await;
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
    stream.try_write(&encode_refusal(error)?).map(drop)
}

/// Returns the bytes of a refusal.
pub(super) fn encode_refusal(error: ApiError) -> io::Result<BytesMut> {
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

fn no_room() -> ApiError {
    let message = "the requests and unread answers of this user take all the memory that they may";
    ApiError::new(ErrorCode::OVERLOADED, message)
        .with_hint("try again once some of them are answered and read")
}

/// The reason why a connection cannot be read any further.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("there was no room in memory for a frame")]
    NoRoom,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Frame(error.into())
    }
}

impl ReadError {
    /// Returns the error for the client.
    fn to_api_error(&self) -> ApiError {
        match self {
            ReadError::Frame(error) => protocol_error(error),
            ReadError::NoRoom => no_room(),
        }
    }
}

/// A request in flight.
struct InFlight {
    task: AbortHandle,
    window: Arc<Window>,
}

/// A connection after the handshake.
struct EstablishedConnection {
    requester: Requester,
    in_flight: HashMap<RequestId, InFlight>,
    tasks: JoinSet<RequestId>,
}

/// Serves requests until the client closes the connection or violates the protocol. Requests in
/// flight are abandoned then; their effects stay.
async fn serve_requests(
    stream: UnixStream,
    reader: FrameReader,
    engine: ExecutionEngine,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) -> Result<(), ReadError> {
    let (mut incoming, outgoing) = stream.into_split();
    let (outbox, waiting) = Outbox::new();
    let mut writer = tokio::spawn(write_frames(outgoing, waiting));
    let uid = engine.uid();
    let memory = context.memory.of_user(uid);
    let mut reader = RequestReader {
        reader,
        uid,
        turns: context.request_turns.clone(),
        pending_turn: None,
        memory: memory.clone(),
        charge: memory.nothing(),
        pending_charge: None,
    };
    let mut connection = EstablishedConnection {
        requester: Requester {
            engine,
            context,
            outbox,
            memory,
        },
        in_flight: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let result = loop {
        tokio::select! {
            frame = reader.next(&mut incoming) => match frame {
                Ok(Some(frame)) => connection.handle_frame(frame).await,
                Ok(None) => break Ok(()),
                Err(error) => {
                    let reason = ServerFrame::End {
                        id: FAREWELL_ID,
                        result: Err(error.to_api_error()),
                    };
                    connection.send(&reason).await;
                    break Err(error);
                }
            },
            Some(ended) = connection.tasks.join_next() => connection.remove_answered(ended),
            () = until_closing(&mut closing) => {
                // The scheduler has stopped, so every request is answered, at least with an error.
                while connection.tasks.join_next().await.is_some() {}
                break Ok(());
            }
            _ = &mut writer => return Ok(()),
        }
    };
    // What it waits for, others can have.
    drop(reader);
    connection.tasks.shutdown().await;
    drop(connection);
    // The last frames are still written, unless the client does not read.
    let _ = timeout_at(Instant::now() + FRAME_TIMEOUT, &mut writer).await;
    writer.abort();
    result
}

/// Answers in the turn of a user: `turn` ends once the answer has been begun.
async fn begin_in_turn(answer: impl Future<Output = ()>, turn: Turn) {
    let mut answer = std::pin::pin!(answer);
    let mut turn = Some(turn);
    poll_fn(|context| {
        let progress = answer.as_mut().poll(context);
        turn = None;
        progress
    })
    .await;
}

impl EstablishedConnection {
    async fn send(&self, frame: &ServerFrame) {
        // If the client has disconnected, the connection is about to end.
        let mut charge = self.requester.memory.nothing();
        let _ = self.requester.outbox.send(frame, &mut charge).await;
    }

    async fn handle_frame(&mut self, received: ReceivedFrame) {
        let ReceivedFrame {
            frame,
            length,
            charge,
            turn,
        } = received;
        match frame {
            ClientFrame::Request { id, body } => {
                let charged = self.charge_request(id, &body, length, charge);
                match charged {
                    Ok(charge) => self.begin_request(id, body, charge, turn),
                    Err(error) => {
                        drop((body, turn));
                        // A reply and not an end, because a stream with the same id goes on.
                        let result = Err(error);
                        self.send(&ServerFrame::Reply { id, result }).await;
                    }
                }
            }
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

    /// Charges the memory of a request, in place of that of its frame. Returns the reason if the
    /// request is refused.
    fn charge_request(
        &mut self,
        id: RequestId,
        body: &Request,
        length: usize,
        mut charge: Charge,
    ) -> Result<Charge, ApiError> {
        // A client may have read an answer, and use the id again, before the end of the request's
        // task is noticed here.
        while let Some(ended) = self.tasks.try_join_next() {
            self.remove_answered(ended);
        }
        if self.in_flight.len() >= MAX_REQUESTS_IN_FLIGHT as usize {
            let message =
                format!("{MAX_REQUESTS_IN_FLIGHT} requests are in flight on this connection");
            return Err(ApiError::new(ErrorCode::TOO_MANY_REQUESTS, message));
        }
        if self.in_flight.contains_key(&id) {
            let message = format!("the request id {} is in use", id.0);
            return Err(ApiError::new(ErrorCode::PROTOCOL, message));
        }
        if !charge.try_resize(requests::memory_of(body, length)) {
            return Err(no_room());
        }
        Ok(charge)
    }

    fn begin_request(&mut self, id: RequestId, body: Request, charge: Charge, turn: Turn) {
        let window = Arc::new(Window::default());
        let requester = self.requester.clone();
        let answer = requests::answer_request(id, body, requester, window.clone(), charge);
        let answer = async move {
            begin_in_turn(answer, turn).await;
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
                self.end_frame();
                return Ok(Some(frame));
            }
            if !self.fill(socket).await? {
                return Ok(None);
            }
        }
    }

    /// Reads more bytes. Returns whether there were any: none come after the last frame once the peer
    /// has closed the connection. Cancel-safe.
    async fn fill(&mut self, socket: &mut impl Incoming) -> io::Result<bool> {
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
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            },
        };
        match (count, self.buffer.is_empty()) {
            (0, false) => Err(io::ErrorKind::UnexpectedEof.into()),
            (count, _) => Ok(count > 0),
        }
    }

    /// Makes space for a frame of `length` bytes, of which the first are in the buffer.
    fn begin_large_frame(&mut self, length: usize) {
        self.buffer
            .reserve(length.saturating_sub(self.buffer.len()));
        // Until now the peer may have waited for escherd.
        self.frame_begun = Some(Instant::now());
    }

    /// Prepares for the next frame after one was decoded. What follows a large frame in the buffer
    /// must not keep the memory of that.
    fn end_frame(&mut self) {
        self.frame_begun = None;
        if self.buffer.capacity() > READ_BUFFER_BYTES {
            let mut rest = BytesMut::with_capacity(READ_BUFFER_BYTES);
            rest.extend_from_slice(&self.buffer);
            self.buffer = rest;
        }
    }
}

/// Reads the frames of a user: each in a turn of that user, the large ones once there is room for them.
struct RequestReader {
    reader: FrameReader,
    uid: u32,
    turns: Turns,
    pending_turn: Option<PendingTurn>,
    memory: UserMemory,
    /// The memory of a frame that has not arrived completely.
    charge: Charge,
    /// The wait for room for it, and the end of that wait.
    pending_charge: Option<(PendingCharge, Instant)>,
}

/// A frame, with what it takes.
struct ReceivedFrame {
    frame: ClientFrame,
    /// Length of its payload.
    length: usize,
    /// Its memory, if that is more than the connection's own buffer.
    charge: Charge,
    /// The turn in which it is decoded and a request is begun.
    turn: Turn,
}

impl RequestReader {
    /// Returns the next frame; `None` when the peer has closed the connection. Cancel-safe: a place in
    /// a queue is kept.
    async fn next(
        &mut self,
        socket: &mut impl Incoming,
    ) -> Result<Option<ReceivedFrame>, ReadError> {
        let codec = FrameCodec::of_clients();
        loop {
            let received = self.reader.buffer.len();
            match codec.frame_length(&self.reader.buffer)? {
                Some(length) if received >= length => {
                    let turn = self.turn().await;
                    let decoded = codec.decode_frame(&mut self.reader.buffer)?;
                    self.reader.end_frame();
                    let charge = std::mem::replace(&mut self.charge, self.memory.nothing());
                    return Ok(decoded.map(|(frame, length)| ReceivedFrame {
                        frame,
                        length,
                        charge,
                        turn,
                    }));
                }
                Some(length) if length > READ_BUFFER_BYTES && !self.charge.is_something() => {
                    self.charge = self.room(length).await?;
                    self.reader.begin_large_frame(length);
                }
                _ => {
                    if !self.reader.fill(socket).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let queue = || self.turns.queue(self.uid);
        let pending = self.pending_turn.get_or_insert_with(queue);
        let turn = poll_fn(|context| pending.poll(context)).await;
        self.pending_turn = None;
        turn
    }

    /// Waits for room for a frame of `length` bytes. Meanwhile the connection is not read.
    async fn room(&mut self, length: usize) -> Result<Charge, ReadError> {
        let queue = || {
            let deadline = Instant::now() + FRAME_TIMEOUT;
            (self.memory.queue(length), deadline)
        };
        let (pending, deadline) = self.pending_charge.get_or_insert_with(queue);
        let charge = timeout_at(*deadline, poll_fn(|context| pending.poll(context))).await;
        self.pending_charge = None;
        charge.map_err(|_| ReadError::NoRoom)
    }
}
