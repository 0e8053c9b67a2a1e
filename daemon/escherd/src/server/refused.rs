//! Connections that are refused: each client is told why in its own protocol, which its first byte shows.

use std::sync::Arc;
use std::time::Duration;

use escher_protocol::ApiError;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{connection, http};

/// How long the first byte of a refused client is awaited.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_millis(100);

/// How many first bytes are awaited at once. Other clients are told in frames, at once.
const MAX_AWAITED: usize = 16;

/// The connections that are about to be refused.
#[derive(Debug)]
pub(super) struct RefusedConnections {
    places: Arc<Semaphore>,
}

impl Default for RefusedConnections {
    fn default() -> Self {
        RefusedConnections {
            places: Arc::new(Semaphore::new(MAX_AWAITED)),
        }
    }
}

impl RefusedConnections {
    /// Tells a client why it is refused, and closes the connection.
    pub(super) fn refuse(&self, stream: UnixStream, error: ApiError) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return refuse_at_once(&stream, error);
        };
        tokio::spawn(async move {
            let _place = place;
            // A client that sends nothing in this time is told in frames.
            let _ = timeout(FIRST_BYTE_TIMEOUT, stream.readable()).await;
            refuse_at_once(&stream, error);
        });
    }
}

/// Tells a client why it is refused, if the socket takes that without waiting.
pub(super) fn refuse_at_once(stream: &UnixStream, error: ApiError) {
    let mut first = [0];
    let is_http = matches!(stream.try_read(&mut first), Ok(1) if http::is_http(first[0]));
    // The client may be gone already, or does not read.
    let _ = if is_http {
        stream.try_write(&http::refusal(error)).map(drop)
    } else {
        connection::refuse_at_once(stream, error)
    };
}
