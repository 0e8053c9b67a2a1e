//! Accepting connections within limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use escher_launcher::os::peer_credentials::{self, PeerCredentials};
use escher_protocol::{ApiError, ErrorCode};
use nix::errno::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, debug, debug_span};

use super::connection_table::{ConnectionSlot, ConnectionTable};
use super::refusals::RefusalLog;
use super::{ServerContext, connection, until_closing};
use crate::config::ConnectionLimits;

/// Back-off after accept(2) failed for any reason but a lack of descriptors. It would probably fail
/// again at once, and there is no event to wait for.
pub(super) const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Accepts connections until `closing` is set. Then waits until the answers to all requests in
/// flight are sent. Each of the `replacements` takes the place of the listening socket.
pub async fn serve(
    mut listener: UnixListener,
    mut replacements: mpsc::Receiver<UnixListener>,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) {
    let table = Arc::new(ConnectionTable::new(context.metrics.clone()));
    let refusals = RefusalLog::default();
    let mut connections = JoinSet::new();
    let connection_closing = closing.clone();
    let mut spare = open_spare();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(replacement) = replacements.recv() => {
                listener = replacement;
                continue;
            }
            Some(_) = connections.join_next() => continue,
            () = until_closing(&mut closing) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let limits = context.connection_limits();
                if let Some((slot, credentials)) = grant_slot(&stream, &table, limits, &refusals) {
                    let (context, closing) = (context.clone(), connection_closing.clone());
                    let span =
                        debug_span!("connection", uid = credentials.uid, pid = credentials.pid);
                    debug!(parent: &span, "connection accepted");
                    let serve = async move {
                        let _slot = slot;
                        connection::serve(stream, credentials, context, closing).await;
                    };
                    connections.spawn(serve.instrument(span));
                }
            }
            Err(error) if is_lack_of_descriptors(&error) && spare.is_some() => {
                // Frees the spare descriptor, to accept the connection and send the reason.
                drop(spare.take());
                if let Ok((stream, _)) = listener.accept().await {
                    let uid = peer_credentials::credentials(&stream)
                        .map(|peer| peer.uid)
                        .ok();
                    refuse(&stream, &table, uid, overloaded(), &refusals);
                }
                spare = open_spare();
            }
            Err(error) => {
                refusals.report(None, &error);
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                spare = spare.or_else(open_spare);
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Opens a spare descriptor: it is closed when there are no others left, to have one for refusing a
/// connection.
fn open_spare() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

fn is_lack_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

fn overloaded() -> ApiError {
    let message = "escherd has no descriptors left for another connection";
    ApiError::new(ErrorCode::OVERLOADED, message).with_hint("try again later")
}

/// Grants a new connection a slot, or refuses it and tells the client why.
fn grant_slot(
    stream: &UnixStream,
    table: &Arc<ConnectionTable>,
    limits: ConnectionLimits,
    refusals: &RefusalLog,
) -> Option<(ConnectionSlot, PeerCredentials)> {
    let credentials = match peer_credentials::credentials(stream) {
        Ok(credentials) => credentials,
        Err(error) => {
            let message = format!("cannot ask the kernel who the peer is: {error}");
            let error = ApiError::new(ErrorCode::OVERLOADED, message);
            refuse(stream, table, None, error, refusals);
            return None;
        }
    };
    match table.take_slot(limits, credentials.uid) {
        Ok(slot) => Some((slot, credentials)),
        Err(error) => {
            refuse(stream, table, Some(credentials.uid), error, refusals);
            None
        }
    }
}

/// Refuses a connection of the user `uid`, if that is known.
fn refuse(
    stream: &UnixStream,
    table: &ConnectionTable,
    uid: Option<u32>,
    error: ApiError,
    refusals: &RefusalLog,
) {
    table.count_refused();
    refusals.report(uid, &error);
    // The client may be gone already, or does not read.
    let _ = connection::refuse_at_once(stream, error);
}
