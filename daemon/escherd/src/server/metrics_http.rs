//! Metrics over HTTP on a socket of their own, for programs that fetch them regularly, like
//! Prometheus.
//!
//! Every process that can connect may read them. Each connection serves one request, and every path
//! returns the metrics.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use escher_launcher::os::peer_credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::accept::ACCEPT_BACKOFF;
use super::connection_table::{ConnectionSlot, ConnectionTable};
use super::metrics::ServerMetrics;
use super::refusals::RefusalLog;
use super::{ServerContext, until_closing};
use crate::config::ConnectionLimits;
use crate::metrics::CONTENT_TYPE;

/// Limits on the connections at once. Others are closed without an answer: if they waited, a few that
/// send nothing would keep everybody out.
const LIMITS: ConnectionLimits = ConnectionLimits {
    max_connections: 16,
    max_connections_per_user: 4,
};

/// Timeout for a connection as a whole.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of the request line with headers, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 64;

/// The method of a request, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    /// A method that is not supported.
    Other,
    /// None: the bytes are not HTTP, or the head is over the limits.
    Malformed,
}

/// Serves metrics until `closing` is set.
pub async fn serve_metrics(
    listener: UnixListener,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) {
    let table = Arc::new(ConnectionTable::new(ServerMetrics::default()));
    let refusals = RefusalLog::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = until_closing(&mut closing) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(slot) = take_slot(&stream, &table) else {
                    continue;
                };
                let request = serve_request(stream, context.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    match timeout(CONNECTION_TIMEOUT, request).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%error, "a request for metrics failed"),
                        Err(_) => debug!("a request for metrics took too long"),
                    }
                });
            }
            Err(error) => {
                refusals.report(None, &error);
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Takes a slot for a new connection; `None` if there is none.
fn take_slot(stream: &UnixStream, table: &Arc<ConnectionTable>) -> Option<ConnectionSlot> {
    let credentials = peer_credentials::credentials(stream).ok()?;
    table.take_slot(LIMITS, credentials.uid).ok()
}

async fn serve_request(mut stream: UnixStream, context: Arc<ServerContext>) -> io::Result<()> {
    let response = match read_method(&mut stream).await? {
        Method::Get => metrics_response(&context, true).await,
        Method::Head => metrics_response(&context, false).await,
        Method::Other => response("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "", true),
        Method::Malformed => response("400 Bad Request", "", "", true),
    };
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads a request to the end of its headers and returns its method. A body is ignored.
async fn read_method(stream: &mut UnixStream) -> io::Result<Method> {
    let mut head = Vec::with_capacity(1024);
    loop {
        let limit = MAX_HEAD_BYTES - head.len();
        let read = (&mut *stream)
            .take(limit as u64)
            .read_buf(&mut head)
            .await?;
        match method(&head) {
            Some(method) => return Ok(method),
            None if read == 0 => return Ok(Method::Malformed),
            None => {}
        }
    }
}

/// Returns the method of a request with this head; `None` while the head is incomplete.
fn method(head: &[u8]) -> Option<Method> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => Some(match request.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            _ => Method::Other,
        }),
        Err(_) => Some(Method::Malformed),
    }
}

async fn metrics_response(context: &ServerContext, with_body: bool) -> String {
    match context.metrics().await {
        Ok(text) => {
            let content_type = format!("Content-Type: {CONTENT_TYPE}\r\n");
            response("200 OK", &content_type, &text, with_body)
        }
        Err(error) => {
            let content_type = "Content-Type: text/plain; charset=utf-8\r\n";
            response(
                "503 Service Unavailable",
                content_type,
                &format!("{error}\n"),
                with_body,
            )
        }
    }
}

fn response(status: &str, headers: &str, body: &str, with_body: bool) -> String {
    let length = body.len();
    let body = if with_body { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_parsed_once_it_is_complete() {
        let whole = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(method(&whole[..length]), None, "{length}");
        }
        assert_eq!(method(whole), Some(Method::Get));
        assert_eq!(method(b"HEAD / HTTP/1.0\r\n\r\n"), Some(Method::Head));
        assert_eq!(method(b"POST / HTTP/1.1\r\n\r\nx=1"), Some(Method::Other));
    }

    #[test]
    fn malformed_requests_are_detected() {
        for head in [&b"\0escher\n"[..], b"GET\r\n\r\n", b"GET / HTTP/2.7\r\n"] {
            assert_eq!(method(head), Some(Method::Malformed), "{head:?}");
        }
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
        assert_eq!(method(many.as_bytes()), Some(Method::Malformed));
    }
}
