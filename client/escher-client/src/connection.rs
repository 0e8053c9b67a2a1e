//! One connection to escherd: multiplexes requests and their responses.
//!
//! Two tasks do its I/O. The writer sends the frames in the [`SendQueue`]. The reader delivers each
//! received frame to its request in the [`RequestTable`], and never waits for a consumer: the flow
//! control window bounds what is queued for a stream. Everything is bounded: a request in flight holds
//! one of as many permits as escherd allows, and has at most its own frame, one `Abandon` and the
//! grants of one window in the queue.

mod connect;
mod handshake;
mod in_flight;
mod item_receiver;
mod request_table;
mod send_queue;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::handshake::Welcome;
use escher_protocol::message::CLOSING_FRAME_ID;
use escher_protocol::{ApiError, ClientFrame, Request, ServerFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Error, ProtocolViolation};
pub(crate) use connect::connect_socket;
pub(crate) use handshake::handshake;
pub(crate) use in_flight::PendingResponse;
use in_flight::{InFlightRequest, IoTasks, Shared};
pub(crate) use item_receiver::ItemReceiver;
use request_table::{RequestTable, ResponseSender};
use send_queue::SendQueue;

/// Buffer space reserved before a read from the socket: enough for most answers at first, and after reads that have filled
/// it more, up to more than one frame of output.
const FIRST_READ_BYTES: usize = 4 * 1024;
const MAX_READ_BYTES: usize = 512 * 1024;

/// A connection after its handshake. It closes when the last request and the last client that use it
/// are dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    welcome: Welcome,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    io_tasks: Arc<IoTasks>,
    established: Instant,
}

impl Connection {
    /// Starts the I/O tasks on `stream`, from which `received` was read after the handshake.
    pub(crate) fn start(stream: UnixStream, received: BytesMut, welcome: Welcome) -> Arc<Self> {
        let limits = welcome.limits;
        let max_in_flight =
            (limits.max_requests_in_flight as usize).clamp(1, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(max_in_flight));
        let shared = Arc::new(Shared {
            requests: RequestTable::new(limits.stream_window_bytes),
            send_queue: SendQueue::new(limits.max_frame_bytes as usize),
        });
        let (read, write) = stream.into_split();
        let mut end = ReaderEnd {
            shared: Arc::clone(&shared),
            permits: Arc::clone(&permits),
            reason: Error::connection_aborted(),
        };
        let reader = tokio::spawn(async move {
            end.reason = read_frames(read, received, &end.shared.requests).await;
            drop(end);
        });
        let writer = tokio::spawn(write_frames(write, Arc::clone(&shared)));
        Arc::new(Connection {
            welcome,
            shared,
            permits,
            io_tasks: Arc::new(IoTasks([reader.abort_handle(), writer.abort_handle()])),
            established: Instant::now(),
        })
    }

    pub(crate) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Whether any frame was received other than notices that escherd shuts down.
    pub(crate) fn has_response(&self) -> bool {
        self.shared.requests.has_response()
    }

    /// Returns the time since the handshake.
    pub(crate) fn age(&self) -> Duration {
        self.established.elapsed()
    }

    /// Sends a request that is answered by one value. On error it was not sent.
    pub(crate) async fn call(&self, request: Request) -> Result<PendingResponse, Error> {
        let permit = self.permit().await?;
        let (sender, receiver) = oneshot::channel();
        let request = self.send(request, ResponseSender::Single(sender), permit)?;
        Ok(PendingResponse::new(receiver, request))
    }

    /// Sends a request that is answered by a stream. On error it was not sent.
    pub(crate) async fn stream(&self, request: Request) -> Result<ItemReceiver, Error> {
        let permit = self.permit().await?;
        let (sender, receiver) = self.shared.requests.stream_channel();
        let request = self.send(request, sender, permit)?;
        Ok(ItemReceiver::new(receiver, request))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => Ok(permit),
            Err(_) => Err(self.shared.requests.close_reason()),
        }
    }

    fn send(
        &self,
        body: Request,
        response: ResponseSender,
        permit: OwnedSemaphorePermit,
    ) -> Result<InFlightRequest, Error> {
        let id = self.shared.requests.insert(response)?;
        let request = ClientFrame::Request { id, body };
        if let Err(error) = self.shared.send_queue.push(&request) {
            self.shared.requests.remove(id);
            return Err(error);
        }
        Ok(InFlightRequest {
            id,
            permit: Some(permit),
            shared: Arc::clone(&self.shared),
            _io_tasks: Arc::clone(&self.io_tasks),
        })
    }
}

/// Ends all requests of a connection when its reader is dropped: at its end, or with its runtime. Later requests would
/// wait for ever.
struct ReaderEnd {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    /// Why the reader has ended.
    reason: Error,
}

impl Drop for ReaderEnd {
    fn drop(&mut self) {
        self.shared.requests.close(self.reason.clone());
        self.permits.close();
    }
}

/// Delivers received frames until the connection ends. Returns why it ended.
async fn read_frames(
    mut socket: OwnedReadHalf,
    mut buffer: BytesMut,
    requests: &RequestTable,
) -> Error {
    let codec = FrameCodec::<ServerFrame>::established();
    let mut room = FIRST_READ_BYTES;
    loop {
        loop {
            match codec.decode_frame(&mut buffer) {
                Ok(Some((
                    ServerFrame::End {
                        id: CLOSING_FRAME_ID,
                        result,
                    },
                    _,
                ))) => {
                    return closing_error(result);
                }
                Ok(Some((frame, length))) => {
                    if let Err(violation) = requests.deliver(frame, length) {
                        return Error::Protocol(violation);
                    }
                }
                Ok(None) => break,
                Err(FrameError::Io(error)) => return Error::Disconnected(Arc::new(error)),
                Err(error) => return Error::Protocol(ProtocolViolation::Frame(Arc::new(error))),
            }
        }
        buffer.reserve(room);
        match socket.read_buf(&mut buffer).await {
            Ok(0) => {
                let kind = io::ErrorKind::UnexpectedEof;
                let error = io::Error::new(kind, "escherd closed the connection");
                return Error::Disconnected(Arc::new(error));
            }
            Ok(_) if buffer.len() == buffer.capacity() => room = (room * 8).min(MAX_READ_BYTES),
            Ok(_) => {}
            Err(error) => return Error::Disconnected(Arc::new(error)),
        }
    }
}

/// Returns why a connection ended, from the last frame of escherd. After an error that is worth a retry the next
/// connection can serve what this one did not.
fn closing_error(result: Result<(), ApiError>) -> Error {
    match result {
        Err(error) if !error.retry => Error::Api(error),
        Err(error) => Error::Disconnected(Arc::new(io::Error::other(error.message.into_string()))),
        Ok(()) => Error::connection_aborted(),
    }
}

/// Writes queued frames until a write fails. The reader reports the failure, after it has delivered
/// what escherd sent before.
async fn write_frames(mut socket: OwnedWriteHalf, shared: Arc<Shared>) {
    loop {
        let batch = shared.send_queue.next_batch().await;
        if socket.write_all(&batch.bytes).await.is_err() {
            return;
        }
        shared.send_queue.recycle(batch);
    }
}
