//! Accepting connections within limits.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_launcher::os::peer_credentials::{self, PeerCredentials};
use escher_protocol::{ApiError, ErrorCode};
use nix::errno::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, debug_span, warn};

use super::{ConnectionMetrics, ServerContext, connection, until_closing};
use crate::config::ConnectionLimits;
use crate::host::fd_budget::ROOT_RESERVE;

/// Back-off after accept(2) failed for any reason but a lack of descriptors. It would probably fail
/// again at once, and there is no event to wait for.
pub(super) const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Counts the open connections.
#[derive(Debug, Default)]
struct ConnectionTable {
    open: Mutex<OpenConnections>,
    metrics: ConnectionMetrics,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    by_uid: HashMap<u32, usize>,
}

/// The slot of an open connection in the table, freed when dropped.
struct ConnectionSlot {
    table: Arc<ConnectionTable>,
    uid: u32,
}

/// Accepts connections until `closing` is set. Then waits until the answers to all requests in
/// flight are sent.
pub async fn serve(
    listener: UnixListener,
    context: Arc<ServerContext>,
    mut closing: watch::Receiver<bool>,
) {
    let table = Arc::new(ConnectionTable {
        open: Mutex::default(),
        metrics: context.connection_metrics.clone(),
    });
    let mut connections = JoinSet::new();
    let connection_closing = closing.clone();
    let mut spare = open_spare();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = until_closing(&mut closing) => break,
        };
        match accepted {
            Ok((stream, _)) => match grant_slot(&stream, &table, context.connection_limits()) {
                Ok((slot, credentials)) => {
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
                Err(error) => warn!(%error, "a connection was refused"),
            },
            Err(error) if is_lack_of_descriptors(&error) && spare.is_some() => {
                // Frees the spare descriptor, to accept the connection and send the reason.
                drop(spare.take());
                if let Ok((stream, _)) = listener.accept().await {
                    table.metrics.count_refused();
                    let refused = connection::refuse_at_once(&stream, overloaded());
                    warn!(
                        ?refused,
                        "a connection was refused: escherd has no descriptors left"
                    );
                }
                spare = open_spare();
            }
            Err(error) => {
                warn!(%error, "no connection can be accepted");
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
) -> io::Result<(ConnectionSlot, PeerCredentials)> {
    let credentials = peer_credentials::credentials(stream)?;
    match ConnectionTable::take_slot(table, limits, credentials.uid) {
        Ok(slot) => Ok((slot, credentials)),
        Err(error) => {
            table.metrics.count_refused();
            connection::refuse_at_once(stream, error.clone())?;
            Err(io::Error::other(error))
        }
    }
}

impl ConnectionTable {
    fn take_slot(
        table: &Arc<ConnectionTable>,
        limits: ConnectionLimits,
        uid: u32,
    ) -> Result<ConnectionSlot, ApiError> {
        let ConnectionLimits {
            max_connections,
            max_connections_per_user,
        } = limits;
        let mut open = table
            .open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let of_user = open.by_uid.get(&uid).copied().unwrap_or(0);
        let (max_total, max_of_user) = match uid {
            0 => (max_connections + ROOT_RESERVE, usize::MAX),
            _ => (max_connections, max_connections_per_user),
        };
        if of_user >= max_of_user {
            let message = format!("this user has {max_of_user} connections, which is the maximum");
            return Err(too_many(message));
        }
        if open.total >= max_total {
            let message = format!("escherd has {max_total} connections, which is the maximum");
            return Err(too_many(message));
        }
        open.total += 1;
        open.by_uid.insert(uid, of_user + 1);
        table.metrics.count_opened();
        Ok(ConnectionSlot {
            table: table.clone(),
            uid,
        })
    }
}

fn too_many(message: String) -> ApiError {
    ApiError::new(ErrorCode::TOO_MANY_CONNECTIONS, message)
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let open = self.table.open.lock();
        let mut open = open.unwrap_or_else(std::sync::PoisonError::into_inner);
        open.total -= 1;
        self.table.metrics.count_closed();
        if let Some(count) = open.by_uid.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_hold_and_root_has_a_reserve() {
        let table = Arc::new(ConnectionTable::default());
        let limits = ConnectionLimits {
            max_connections: 3,
            max_connections_per_user: 2,
        };
        let take_slot = |uid| ConnectionTable::take_slot(&table, limits, uid);
        let first = take_slot(1000).unwrap();
        let _second = take_slot(1000).unwrap();
        assert!(take_slot(1000).is_err(), "over the user's limit");
        let _third = take_slot(1001).unwrap();
        assert!(take_slot(1002).is_err(), "over the limit of all");
        let reserve: Vec<ConnectionSlot> =
            (0..ROOT_RESERVE).map(|_| take_slot(0).unwrap()).collect();
        assert!(take_slot(0).is_err(), "the reserve has an end");
        drop((first, reserve));
        assert!(take_slot(1002).is_ok());
    }
}
