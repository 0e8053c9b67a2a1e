//! HTTP/1 on the socket of the clients: the same operations as in frames, with JSON.
//!
//! [`route`] says which resource a path names. [`call`] is a request with what it takes; the handlers
//! are in [`executions`], [`control`], [`output`], [`events`] and [`daemon_resources`]. They answer with
//! the objects of [`escher_protocol::json`], whole or as a [`feed`], in bodies that [`streaming`] charges
//! to their user, and with a [`problem`] where a request fails. [`query`] and [`media`] parse what a
//! request has besides its body. `docs/api.md` describes it all.

mod call;
mod control;
mod daemon_resources;
mod events;
mod executions;
mod feed;
mod media;
mod output;
mod problem;
mod query;
mod route;
mod streaming;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::ApiError;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::ORIGIN;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::connection::{FRAME_TIMEOUT, begin_in_turn};
use super::requests::REQUEST_BYTES;
use super::{ServerContext, until_closing};
use crate::api::ExecutionEngine;
use call::{Call, Reply, read_body};
use problem::Problem;
use route::Resource;
use streaming::Body;

/// Timeout for the head of a request, and for the next request on a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum size of a request line with its headers, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Maximum size of the body of a submission, and of any other request, in bytes.
const MAX_SUBMISSION_BYTES: usize = 8 * 1024 * 1024;
const MAX_BODY_BYTES: usize = 128 * 1024;

/// Returns whether a connection that begins with this byte is one of HTTP: a method begins with an
/// upper-case letter, and a frame with the length of a small greeting.
pub(super) fn is_http(first_byte: u8) -> bool {
    first_byte.is_ascii_uppercase()
}

/// Returns the bytes of an answer to any request of a client that is refused.
pub(super) fn refusal(error: ApiError) -> Vec<u8> {
    Box::<Problem>::from(error).to_bytes()
}

/// Serves a connection to its end, of which `received` has arrived.
pub(super) async fn serve(
    stream: UnixStream,
    received: BytesMut,
    credentials: PeerCredentials,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) {
    let engine = context.engine.authenticate(credentials).await;
    let connection = Arc::new(Connection { engine, context });
    // One more for each request that is not answered completely.
    let answering = Arc::new(());
    let service = service_fn(|request| {
        let (connection, answering) = (Arc::clone(&connection), Arc::clone(&answering));
        async move {
            let response = connection.answer(request).await;
            let body = |body: Body| {
                let hold = move |frame| {
                    let _ = &answering;
                    frame
                };
                body.map_frame(hold).boxed_unsync()
            };
            Ok::<_, Infallible>(response.map(body))
        }
    });
    let (reader, writer) = stream.into_split();
    let received = std::io::Cursor::new(received);
    let io = TokioIo::new(tokio::io::join(received.chain(reader), writer));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(io, service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = until_closing(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            if Arc::strong_count(&answering) == 1 {
                return;
            }
            // The scheduler has stopped, so every request is answered, at least with an error.
            timeout(FRAME_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        debug!(%error, "the connection failed");
    }
}

/// A connection: the engine with the authority of its client, or why that is refused.
struct Connection {
    engine: Result<ExecutionEngine, ApiError>,
    context: Arc<ServerContext>,
}

impl Connection {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let reply = self.reply(request).await;
        reply.unwrap_or_else(|problem| problem.response())
    }

    async fn reply(&self, request: Request<Incoming>) -> Reply {
        self.context.metrics.count_request();
        let engine = self.engine.clone()?;
        let (head, body) = request.into_parts();
        debug!(method = %head.method, path = head.uri.path(), "received a request");
        if head.headers.contains_key(ORIGIN) {
            let message = "pages of a browser may not use escherd";
            let problem = Problem::refused(StatusCode::FORBIDDEN, message);
            return Err(problem.with_field("Origin"));
        }
        let resource = Resource::find(head.uri.path())?;
        let method = resource.method(&head.method)?;
        let memory = self.context.memory.of_user(engine.uid());
        let mut charge = memory.charge(REQUEST_BYTES).await;
        let max_bytes = match resource {
            Resource::Executions => MAX_SUBMISSION_BYTES,
            _ => MAX_BODY_BYTES,
        };
        let body = read_body(body, max_bytes, &memory, &mut charge).await?;
        let turn = self.context.request_turns.take(engine.uid()).await;
        let call = Call {
            engine,
            context: Arc::clone(&self.context),
            memory,
            headers: head.headers,
            query: head.uri.query().map(str::to_owned),
            body,
            charge,
        };
        begin_in_turn(handle(resource, &method, call), turn).await
    }
}

async fn handle(resource: Resource, method: &Method, call: Call) -> Reply {
    match resource {
        Resource::Info => daemon_resources::info(call).await,
        Resource::Settings => daemon_resources::settings(call).await,
        Resource::Doctor => daemon_resources::doctor(call).await,
        Resource::Quotas => daemon_resources::quotas(call).await,
        Resource::Metrics => daemon_resources::metrics(call).await,
        Resource::Reload => daemon_resources::reload(call).await,
        Resource::Cleanup => daemon_resources::cleanup(call).await,
        Resource::Problem(name) => daemon_resources::problem_type(call, &name),
        Resource::Events => events::events(call).await,
        Resource::Executions if *method == Method::POST => executions::submit(call).await,
        Resource::Executions => executions::list(call).await,
        Resource::Prune => executions::prune(call).await,
        Resource::Execution(reference) if *method == Method::DELETE => {
            executions::remove(call, &reference).await
        }
        Resource::Execution(reference) => executions::get(call, &reference).await,
        Resource::Cancel(reference) => control::cancel(call, &reference).await,
        Resource::Signal(reference) => control::signal(call, &reference).await,
        Resource::Pause(reference) => control::pause(call, &reference, true).await,
        Resource::Resume(reference) => control::pause(call, &reference, false).await,
        Resource::Result(reference) => control::result(call, &reference).await,
        Resource::Stdin(reference) => control::write_stdin(call, &reference).await,
        Resource::Output(reference) => output::output(call, &reference).await,
    }
}
