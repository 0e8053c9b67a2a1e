//! The metrics on a socket of their own, over HTTP: for those who fetch them again and again, as Prometheus does.
//!
//! Whoever can connect may have them. Each connection is for one request, and whatever it gets is the same: there
//! is nothing else here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::accept::ACCEPT_PAUSE;
use super::{Service, until_closing};
use crate::metrics::CONTENT_TYPE;

/// Connections at once. More wait to be taken.
const MAX_CONNECTIONS: usize = 4;

/// How long each may take in all.
const DEADLINE: Duration = Duration::from_secs(5);

/// Longest request line with headers, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// The metrics.
    Get,
    /// What would be said of them.
    Head,
    /// Something that is not to be had here.
    Other,
    /// It was not HTTP, or too much of it.
    Unintelligible,
}

/// Answers until `closing` says so.
pub async fn serve_metrics(
    listener: UnixListener,
    service: Arc<Service>,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
            () = until_closing(&mut closing) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let answer = answer(stream, service.clone());
                connections.spawn(async move {
                    match timeout(DEADLINE, answer).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%error, "metrics were asked for and not taken"),
                        Err(_) => debug!("metrics were asked for too slowly"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "no connection for metrics can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, service: Arc<Service>) -> io::Result<()> {
    let response = match read_wish(&mut stream).await? {
        Wish::Get => metrics(&service, true).await,
        Wish::Head => metrics(&service, false).await,
        Wish::Other => response("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "", true),
        Wish::Unintelligible => response("400 Bad Request", "", "", true),
    };
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads to the end of the headers. There is no body that would mean anything.
async fn read_wish(stream: &mut UnixStream) -> io::Result<Wish> {
    let mut head = Vec::with_capacity(1024);
    loop {
        let room = MAX_HEAD_BYTES - head.len();
        let read = (&mut *stream).take(room as u64).read_buf(&mut head).await?;
        match wish(&head) {
            Some(wish) => return Ok(wish),
            None if read == 0 => return Ok(Wish::Unintelligible),
            None => {}
        }
    }
}

/// What the head of a request wants; `None` while it is not complete.
fn wish(head: &[u8]) -> Option<Wish> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => Some(match request.method {
            Some("GET") => Wish::Get,
            Some("HEAD") => Wish::Head,
            _ => Wish::Other,
        }),
        Err(_) => Some(Wish::Unintelligible),
    }
}

async fn metrics(service: &Service, with_body: bool) -> String {
    match service.metrics().await {
        Ok(text) => {
            let kind = format!("Content-Type: {CONTENT_TYPE}\r\n");
            response("200 OK", &kind, &text, with_body)
        }
        Err(error) => {
            let kind = "Content-Type: text/plain; charset=utf-8\r\n";
            response(
                "503 Service Unavailable",
                kind,
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
    fn a_request_is_understood_once_it_is_complete() {
        let whole = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(wish(&whole[..length]), None, "{length}");
        }
        assert_eq!(wish(whole), Some(Wish::Get));
        assert_eq!(wish(b"HEAD / HTTP/1.0\r\n\r\n"), Some(Wish::Head));
        assert_eq!(wish(b"POST / HTTP/1.1\r\n\r\nx=1"), Some(Wish::Other));
    }

    #[test]
    fn what_is_not_http_is_noticed_at_once() {
        for head in [&b"\0escher\n"[..], b"GET\r\n\r\n", b"GET / HTTP/2.7\r\n"] {
            assert_eq!(wish(head), Some(Wish::Unintelligible), "{head:?}");
        }
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
        assert_eq!(wish(many.as_bytes()), Some(Wish::Unintelligible));
    }
}
