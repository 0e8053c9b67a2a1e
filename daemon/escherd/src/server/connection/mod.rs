//! One connection of a client, from its first frame to its end.

mod frame_reader;
mod handshake;
mod request_reader;

pub(super) use frame_reader::READ_BUFFER_BYTES;
pub(super) use handshake::{encode_refusal, refuse_at_once};
pub(super) use request_reader::over_memory_limit;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::message::CLOSING_FRAME_ID;
use escher_protocol::{ApiError, ClientFrame, ErrorCode, Request, RequestId, ServerFrame};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug};

use super::memory::Charge;
use super::outbox::{Outbox, Window, write_frames};
use super::requests::{self, Requester};
use super::{ServerContext, until_closing};
use crate::api::ExecutionEngine;
use crate::turns::Turn;
use frame_reader::FrameReader;
use handshake::shake_hands;
use request_reader::{ReadError, ReceivedFrame, RequestReader};

/// Timeout for the rest of a frame after its first byte, for room in memory for it, and for writing
/// the last frames.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of requests in flight on one connection.
const MAX_REQUESTS_IN_FLIGHT: u32 = 256;

/// Serves a connection to its end. `received` has come already; the rest of the greeting has to come
/// until `deadline`.
pub(super) async fn serve(
    mut stream: UnixStream,
    received: BytesMut,
    deadline: Instant,
    credentials: PeerCredentials,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) {
    let reader = FrameReader::beginning_with(received);
    let handshake = tokio::select! {
        handshake = shake_hands(&mut stream, reader, deadline, credentials, &context) => handshake,
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
    let turns = context.request_turns.clone();
    let mut reader = RequestReader::new(reader, uid, turns, memory.clone());
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
                        id: CLOSING_FRAME_ID,
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
pub(super) async fn begin_in_turn<T>(answer: impl Future<Output = T>, turn: Turn) -> T {
    let mut answer = std::pin::pin!(answer);
    let mut turn = Some(turn);
    poll_fn(|context| {
        let progress = answer.as_mut().poll(context);
        turn = None;
        progress
    })
    .await
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
            return Err(over_memory_limit());
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
