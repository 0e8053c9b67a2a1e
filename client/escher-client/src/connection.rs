//! One connection: requests out, answers in, each to whom it belongs.
//!
//! Two tasks work for it. The *writer* takes what [`Outgoing`] has gathered; the *reader* hands what
//! arrives to the [`Routes`] of the requests in flight and never waits for any of them, because a
//! stream's items are bounded by its window. Nothing here is unbounded: each request in flight holds a
//! permit, of which there are as many as escherd allows, and has at most itself, one abandonment and
//! the grants of one window waiting to be written.

mod inbox;
mod outgoing;
mod routes;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::handshake::Welcome;
use escher_protocol::{ClientFrame, Request, RequestId, Response, ServerFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;

use crate::error::{Error, Violation};
pub(crate) use inbox::Inbox;
use outgoing::Outgoing;
use routes::{Route, Routes};

/// Room made for each read from the socket: a frame of output and then some.
const READ_BYTES: usize = 512 * 1024;

/// A connection after its handshake. It closes when the last request and the last client that hold it
/// are dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    welcome: Welcome,
    shared: Arc<Shared>,
    in_flight: Arc<Semaphore>,
    tasks: [AbortHandle; 2],
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    routes: Routes,
    outgoing: Outgoing,
}

impl Connection {
    /// Takes over `stream`, of which `rest` was already read.
    pub(crate) fn start(stream: UnixStream, rest: BytesMut, welcome: Welcome) -> Arc<Self> {
        let limits = welcome.limits;
        let permits = (limits.max_requests_in_flight as usize).clamp(1, Semaphore::MAX_PERMITS);
        let in_flight = Arc::new(Semaphore::new(permits));
        let shared = Arc::new(Shared {
            routes: Routes::new(limits.stream_window_bytes),
            outgoing: Outgoing::new(limits.max_frame_bytes as usize),
        });
        let (read, write) = stream.into_split();
        let reader = tokio::spawn({
            let (shared, in_flight) = (Arc::clone(&shared), Arc::clone(&in_flight));
            async move {
                let end = receive(read, rest, &shared.routes).await;
                shared.routes.close(end);
                in_flight.close();
            }
        });
        let writer = tokio::spawn(send(write, Arc::clone(&shared)));
        Arc::new(Connection {
            welcome,
            shared,
            in_flight,
            tasks: [reader.abort_handle(), writer.abort_handle()],
            since: Instant::now(),
        })
    }

    pub(crate) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Whether anything was answered over it, but that escherd is about to stop.
    pub(crate) fn has_answered(&self) -> bool {
        self.shared.routes.answered()
    }

    /// How long ago it was made.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Sends a request that is answered by one value. With an error it was not sent.
    pub(crate) async fn call(self: &Arc<Self>, request: Request) -> Result<PendingReply, Error> {
        let permit = self.permit().await?;
        let (answer, reply) = oneshot::channel();
        let ticket = self.open(request, Route::Reply(answer), permit)?;
        Ok(PendingReply { reply, ticket })
    }

    /// Sends a request that is answered by a stream. With an error it was not sent.
    pub(crate) async fn stream(self: &Arc<Self>, request: Request) -> Result<Inbox, Error> {
        let permit = self.permit().await?;
        let (route, feed) = self.shared.routes.stream();
        let ticket = self.open(request, route, permit)?;
        Ok(Inbox::new(feed, ticket))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        match Arc::clone(&self.in_flight).acquire_owned().await {
            Ok(permit) => Ok(permit),
            Err(_) => Err(self.shared.routes.end()),
        }
    }

    fn open(
        self: &Arc<Self>,
        body: Request,
        route: Route,
        permit: OwnedSemaphorePermit,
    ) -> Result<Ticket, Error> {
        let id = self.shared.routes.open(route)?;
        let request = ClientFrame::Request { id, body };
        if let Err(error) = self.shared.outgoing.push(&request) {
            self.shared.routes.forget(id);
            return Err(error);
        }
        Ok(Ticket {
            id,
            permit: Some(permit),
            connection: Arc::clone(self),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A request in flight. Dropping it before it is answered abandons it.
#[derive(Debug)]
struct Ticket {
    id: RequestId,
    permit: Option<OwnedSemaphorePermit>,
    connection: Arc<Connection>,
}

impl Ticket {
    /// Lets the stream that answers this send `bytes` more.
    fn grant(&self, bytes: u32) {
        let shared = &self.connection.shared;
        // Too small to be refused; a connection that is gone needs no grant.
        let _ = shared
            .outgoing
            .push(&ClientFrame::Grant { id: self.id, bytes });
    }

    fn connection_end(&self) -> Error {
        self.connection.shared.routes.end()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let shared = &self.connection.shared;
        if shared.routes.forget(self.id) {
            shared.outgoing.push_abandon(self.id, self.permit.take());
        }
    }
}

/// The answer to come.
#[derive(Debug)]
pub(crate) struct PendingReply {
    reply: oneshot::Receiver<Result<Response, Error>>,
    ticket: Ticket,
}

impl PendingReply {
    /// Waits for it. Dropping the future loses nothing; after an answer there is no other.
    pub(crate) async fn response(&mut self) -> Result<Response, Error> {
        match (&mut self.reply).await {
            Ok(answer) => answer,
            Err(_) => Err(self.ticket.connection_end()),
        }
    }
}

/// Reads frames until there are no more, and says why.
async fn receive(mut socket: OwnedReadHalf, mut buffer: BytesMut, routes: &Routes) -> Error {
    let codec = FrameCodec::<ServerFrame>::established();
    loop {
        loop {
            match codec.decode_frame(&mut buffer) {
                Ok(Some((frame, length))) => {
                    if let Err(violation) = routes.deliver(frame, length) {
                        return Error::Protocol(violation);
                    }
                }
                Ok(None) => break,
                Err(FrameError::Io(error)) => return Error::Disconnected(Arc::new(error)),
                Err(error) => return Error::Protocol(Violation::Frame(Arc::new(error))),
            }
        }
        buffer.reserve(READ_BYTES);
        match socket.read_buf(&mut buffer).await {
            Ok(0) => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "escherd hung up");
                return Error::Disconnected(Arc::new(error));
            }
            Ok(_) => {}
            Err(error) => return Error::Disconnected(Arc::new(error)),
        }
    }
}

/// Writes what is gathered, until the socket takes no more. That it does not is told by the reader,
/// which first delivers what escherd had still to say.
async fn send(mut socket: OwnedWriteHalf, shared: Arc<Shared>) {
    loop {
        let batch = shared.outgoing.take().await;
        if socket.write_all(&batch.bytes).await.is_err() {
            return;
        }
        shared.outgoing.recycle(batch);
    }
}
