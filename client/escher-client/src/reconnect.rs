//! Reaching an escherd again that has gone away.
//!
//! Nothing polls: the socket's directory tells when there is something new to connect to
//! ([`Arrival`]). Where it cannot tell, an attempt that failed is followed by a pause.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::Connection;
use crate::connector::{Connector, Outage};
use crate::error::{ConnectError, Error, Violation};
use crate::socket_watch::Arrival;

/// The pause after a failure that no event tells the end of.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why an attempt failed, seen from whether to make another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prospect {
    /// Nobody is there; an event tells when that changes.
    Awaited,
    /// Somebody is there, or there is something that changes without an event.
    Uncertain,
    /// Another attempt would fail likewise.
    Hopeless,
}

/// Connects, waiting for escherd until `patience` has passed since the outage began. When it has passed
/// already, there is one attempt all the same: escherd may have come back since. With `fruitless` the
/// last attempt has led to a connection over which nothing came: a pause comes first.
pub(crate) async fn reconnect(
    connector: &Connector,
    since: Instant,
    fruitless: bool,
) -> Result<Arc<Connection>, Error> {
    // One that is too far off to be told is none.
    let deadline = since.checked_add(connector.patience());
    let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
    if fruitless {
        tokio::select! {
            biased;
            () = until(deadline) => return Err(gone(connector, since, drops_connections(connector))),
            () = sleep(RETRY_PAUSE) => {}
        }
    }
    let (mut told, mut by_event) = (false, false);
    let error = loop {
        // Before the attempt, so that nothing that happens meanwhile is missed.
        let arrival = Arrival::watch(connector.socket()).ok();
        let error = match connector.open(time_for_attempt(connector, deadline)).await {
            Ok(connection) => {
                if told {
                    connector.tell(Outage::Ended);
                }
                return Ok(connection);
            }
            Err(error) => error,
        };
        let prospect = prospect(&error);
        let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if late || over || prospect == Prospect::Hopeless {
            break error;
        }
        if !told {
            connector.tell(Outage::Began);
            told = true;
        }
        // Between bind(2), which makes the file, and listen(2) connections are refused, and no event
        // tells of the second; so a failure right after an event is not trusted either.
        let paused = prospect == Prospect::Uncertain || by_event || arrival.is_none();
        by_event = tokio::select! {
            () = changed(arrival.as_ref()) => true,
            () = sleep(RETRY_PAUSE), if paused => false,
            () = until(deadline) => break error,
        };
    };
    if told {
        connector.tell(Outage::GivenUp);
    }
    Err(gone(connector, since, error))
}

fn gone(connector: &Connector, since: Instant, source: ConnectError) -> Error {
    Error::DaemonGone {
        path: connector.socket().to_owned(),
        after: since.elapsed().min(connector.patience()),
        source: Arc::new(source),
    }
}

fn drops_connections(connector: &Connector) -> ConnectError {
    ConnectError::Io {
        path: connector.socket().to_owned(),
        source: io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "it takes connections and drops them unanswered",
        ),
    }
}

/// Up to the deadline of the outage if that comes first; as long as any attempt if it has passed.
fn time_for_attempt(connector: &Connector, deadline: Option<Instant>) -> Duration {
    let longest = connector.attempt_deadline();
    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        Some(left) if !left.is_zero() => left.min(longest),
        _ => longest,
    }
}

fn prospect(error: &ConnectError) -> Prospect {
    match error {
        ConnectError::NoDaemon { .. }
        // A new socket is closed to all until it has its permissions.
        | ConnectError::PermissionDenied { .. }
        // What is refused and then gone looks like this, too.
        | ConnectError::NotASocket { .. } => Prospect::Awaited,
        ConnectError::Refused { refusal, .. } if refusal.error.retry => Prospect::Uncertain,
        ConnectError::Timeout { .. }
        | ConnectError::Io { .. }
        // By one that was about to stop.
        | ConnectError::Protocol {
            violation: Violation::HungUp,
            ..
        } => Prospect::Uncertain,
        ConnectError::Refused { .. }
        | ConnectError::VersionMismatch { .. }
        | ConnectError::Protocol { .. } => Prospect::Hopeless,
    }
}

async fn changed(arrival: Option<&Arrival>) {
    match arrival {
        Some(arrival) => {
            if arrival.changed().await.is_err() {
                // The next attempt begins with a new watch, but not at once: it may fail likewise.
                sleep(RETRY_PAUSE).await;
            }
        }
        None => pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
