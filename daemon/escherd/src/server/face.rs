//! Which protocol a client speaks: the first byte of its connection tells.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use escher_launcher::os::peer_credentials::PeerCredentials;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{ServerContext, connection, http, until_closing};

/// Timeout for a peer to send its greeting, or the first byte of HTTP.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a connection to its end, in frames or over HTTP.
pub(super) async fn serve(
    mut stream: UnixStream,
    credentials: PeerCredentials,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) {
    let deadline = Instant::now() + GREETING_TIMEOUT;
    let mut received = BytesMut::with_capacity(connection::READ_BUFFER_BYTES);
    let read = tokio::select! {
        read = timeout_at(deadline, stream.read_buf(&mut received)) => read,
        () = until_closing(&mut closing) => return,
    };
    match (read, received.first()) {
        (Ok(Ok(0) | Err(_)), _) => {}
        (_, Some(first)) if http::is_http(*first) => {
            http::serve(stream, received, credentials, context, closing).await;
        }
        // Without any byte, too: the handshake says that it took too long.
        _ => connection::serve(stream, received, deadline, credentials, context, closing).await,
    }
}
