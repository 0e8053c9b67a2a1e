//! Reconnects to an escherd that became unavailable.
//!
//! Nothing polls: a [`SocketWatch`] reports when another attempt may succeed. After a failure whose
//! end no event reports, there is a pause before the next attempt.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use escher_protocol::ErrorCode;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connector::{Connected, Connector, ReconnectEvent};
use crate::error::{ConnectError, Error, ProtocolViolation};
use crate::socket_watch::SocketWatch;

/// The pause after a failed attempt when no event may report a change.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The pause after an attempt at which escherd could not start. Each attempt makes systemd start it
/// again.
const NOT_SERVING_PAUSE: Duration = Duration::from_secs(10);

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryDecision {
    /// Retry when the socket watch reports a change.
    OnEvent,
    /// Retry on a change or after a pause: the cause may end without an event.
    AfterPause(Duration),
    /// Give up: another attempt would fail in the same way.
    GiveUp,
}

/// Connects to escherd, waiting until the reconnect timeout has passed since `outage_start`.
///
/// If it has passed already, makes a single attempt: escherd may be available again. With `pause_first`
/// there is a pause before the first attempt, because the last one gave a connection without any
/// response.
pub(crate) async fn reconnect(
    connector: &Connector,
    outage_start: Instant,
    pause_first: bool,
) -> Result<Connected, Error> {
    // A deadline too far in the future to be represented is no deadline.
    let deadline = outage_start.checked_add(connector.total_reconnect_timeout());
    let single_attempt = has_passed(deadline);
    let unavailable = |error| daemon_unavailable(connector, outage_start, error);
    if pause_first {
        tokio::select! {
            biased;
            () = wait_until(deadline) => return Err(unavailable(dropped_connections(connector))),
            () = sleep(RETRY_PAUSE) => {}
        }
    }
    let mut reported = false;
    let mut retried_on_event = false;
    let error = loop {
        // Starts before the attempt, so that no change during it is missed.
        let watch = SocketWatch::new(connector.socket_paths()).ok();
        let error = match connector
            .attempt(attempt_timeout(connector, deadline))
            .await
        {
            Ok(connected) => {
                if reported {
                    connector.notify(ReconnectEvent::Reconnected);
                }
                return Ok(connected);
            }
            Err(error) => error,
        };
        let decision = retry_decision(&error);
        if single_attempt || has_passed(deadline) || decision == RetryDecision::GiveUp {
            break error;
        }
        if !reported {
            connector.notify(ReconnectEvent::Waiting);
            reported = true;
        }
        // bind(2) creates the socket, but connections are refused until listen(2), which no event
        // reports. So a failure right after an event is retried after a pause, too.
        let pause = match decision {
            RetryDecision::AfterPause(pause) => Some(pause),
            _ if retried_on_event || watch.is_none() => Some(RETRY_PAUSE),
            _ => None,
        };
        retried_on_event = tokio::select! {
            () = socket_change(watch.as_ref()) => true,
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => false,
            () = wait_until(deadline) => break error,
        };
    };
    if reported {
        connector.notify(ReconnectEvent::GaveUp);
    }
    Err(unavailable(error))
}

fn daemon_unavailable(connector: &Connector, outage_start: Instant, source: ConnectError) -> Error {
    Error::DaemonUnavailable {
        path: connector.socket_path().to_owned(),
        waited: outage_start
            .elapsed()
            .min(connector.total_reconnect_timeout()),
        source: Arc::new(source),
    }
}

fn dropped_connections(connector: &Connector) -> ConnectError {
    ConnectError::Io {
        path: connector.socket_path().to_owned(),
        source: io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "it accepts connections and closes them without a response",
        ),
    }
}

/// Returns the time until `deadline`, but no more than one attempt may take, and exactly that once
/// `deadline` has passed.
fn attempt_timeout(connector: &Connector, deadline: Option<Instant>) -> Duration {
    let max = connector.attempt_timeout();
    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        Some(remaining) if !remaining.is_zero() => remaining.min(max),
        _ => max,
    }
}

fn retry_decision(error: &ConnectError) -> RetryDecision {
    match error {
        ConnectError::NoDaemon { .. }
        | ConnectError::NeitherUsable { .. }
        // A new socket admits no one until its permissions are set.
        | ConnectError::PermissionDenied { .. }
        // Also the result if the socket is removed after connect(2) was refused.
        | ConnectError::NotASocket { .. } => RetryDecision::OnEvent,
        ConnectError::Refused { refusal, .. } if refusal.error.code == ErrorCode::NOT_SERVING => {
            RetryDecision::AfterPause(NOT_SERVING_PAUSE)
        }
        ConnectError::Refused { refusal, .. } if refusal.error.retry => {
            RetryDecision::AfterPause(RETRY_PAUSE)
        }
        ConnectError::Timeout { .. }
        | ConnectError::Io { .. }
        // An escherd that was about to stop accepted the connection.
        | ConnectError::Protocol {
            violation: ProtocolViolation::ConnectionClosed,
            ..
        } => RetryDecision::AfterPause(RETRY_PAUSE),
        ConnectError::Refused { .. }
        | ConnectError::VersionMismatch { .. }
        | ConnectError::PathTooLong { .. }
        | ConnectError::UntrustedDirectory { .. }
        | ConnectError::Protocol { .. } => RetryDecision::GiveUp,
    }
}

async fn socket_change(watch: Option<&SocketWatch>) {
    match watch {
        Some(watch) => {
            if watch.changed().await.is_err() {
                // The next attempt starts a new watch. It may fail in the same way, so not at once.
                sleep(RETRY_PAUSE).await;
            }
        }
        None => pending().await,
    }
}

fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use escher_protocol::ApiError;
    use escher_protocol::handshake::Refusal;

    use super::*;

    #[test]
    fn the_next_attempt_depends_on_the_reason_of_a_refusal() {
        for (code, decision) in [
            (
                ErrorCode::NOT_SERVING,
                RetryDecision::AfterPause(NOT_SERVING_PAUSE),
            ),
            (
                ErrorCode::TOO_MANY_CONNECTIONS,
                RetryDecision::AfterPause(RETRY_PAUSE),
            ),
            (ErrorCode::PERMISSION_DENIED, RetryDecision::GiveUp),
        ] {
            let refusal = Box::new(Refusal {
                error: ApiError::new(code, "no"),
                lowest: 1,
                highest: 1,
            });
            let path = PathBuf::new();
            let error = ConnectError::Refused { path, refusal };
            assert_eq!(retry_decision(&error), decision, "{code:?}");
        }
    }
}
