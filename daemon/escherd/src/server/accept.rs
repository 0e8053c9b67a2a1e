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
use super::refused::{RefusedConnections, refuse_at_once};
use super::{ServerContext, face, until_closing};
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
    let refused = RefusedConnections::default();
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
                match grant_slot(&stream, &table, limits, &refusals) {
                    Err(error) => refused.refuse(stream, error),
                    Ok((slot, credentials)) => {
                        let (context, closing) = (context.clone(), connection_closing.clone());
                        let span =
                            debug_span!("connection", uid = credentials.uid, pid = credentials.pid);
                        debug!(parent: &span, "connection accepted");
                        let serve = async move {
                            let _slot = slot;
                            face::serve(stream, credentials, context, closing).await;
                        };
                        connections.spawn(serve.instrument(span));
                    }
                }
            }
            Err(error) if is_lack_of_descriptors(&error) && spare.is_some() => {
                // Frees the spare descriptor, to accept the connection and send the reason.
                drop(spare.take());
                if let Ok((stream, _)) = listener.accept().await {
                    let uid = peer_credentials::credentials(&stream)
                        .map(|peer| peer.uid)
                        .ok();
                    count_refusal(&table, uid, &overloaded(), &refusals);
                    refuse_at_once(&stream, overloaded());
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

/// Grants a new connection a slot, or returns why it is refused.
fn grant_slot(
    stream: &UnixStream,
    table: &Arc<ConnectionTable>,
    limits: ConnectionLimits,
    refusals: &RefusalLog,
) -> Result<(ConnectionSlot, PeerCredentials), ApiError> {
    let credentials = match peer_credentials::credentials(stream) {
        Ok(credentials) => credentials,
        Err(error) => {
            let message = format!("cannot ask the kernel who the peer is: {error}");
            let error = ApiError::new(ErrorCode::OVERLOADED, message);
            count_refusal(table, None, &error, refusals);
            return Err(error);
        }
    };
    match table.take_slot(limits, credentials.uid) {
        Ok(slot) => Ok((slot, credentials)),
        Err(error) => {
            count_refusal(table, Some(credentials.uid), &error, refusals);
            Err(error)
        }
    }
}

/// Counts and logs that a connection of the user `uid`, if that is known, is refused.
fn count_refusal(
    table: &ConnectionTable,
    uid: Option<u32>,
    error: &ApiError,
    refusals: &RefusalLog,
) {
    table.count_refused();
    refusals.report(uid, error);
}
