//! Sends requests over the current connection, and replaces that connection when it is lost.
//!
//! A lost [`Connection`] never recovers. A request remembers the connection that it was sent on; when
//! that is lost, it asks for the next one ([`ReconnectingTransport::next_connection`]). All requests
//! share one attempt to reconnect. It runs in a task of its own, so that no request has to be polled
//! for the others to make progress.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use escher_protocol::handshake::Welcome;
use escher_protocol::{ClientId, Request, Response, SignalSerial};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::connection::{Connection, ItemReceiver};
use crate::connector::Connector;
use crate::error::{ConnectError, Error};
use crate::reconnect::{RETRY_PAUSE, reconnect};
use crate::socket_choice::EscherdSocket;

/// Carries requests to one socket. It has one connection at a time.
#[derive(Debug)]
pub(crate) struct ReconnectingTransport {
    /// Connects to the socket that the first connection was made to.
    connector: Connector,
    socket: EscherdSocket,
    /// Why the preferred socket is not used, if it is another one.
    passed_over: Option<ConnectError>,
    state: Mutex<State>,
    client: ClientId,
    /// How many signals were sent.
    sent_signals: AtomicU64,
}

#[derive(Debug)]
struct State {
    connection: Arc<Connection>,
    last_outage: LastOutage,
    reconnecting: Option<ReconnectTask>,
}

/// The last outage that the client knows of. An outage is the time without a connection.
#[derive(Debug, Clone, Copy)]
enum LastOutage {
    /// The current connection is the first one.
    None,
    /// An outage that began at this time. The current connection ended it.
    Ended(Instant),
    /// An outage that began at this time and continues: the current connection is lost, and the last
    /// attempt to reconnect failed.
    Ongoing(Instant),
}

/// The result of a [`ReconnectTask`]; `None` while it runs.
type ReconnectResult = Option<Result<Arc<Connection>, Error>>;

/// A task that reconnects. Dropping this stops it.
#[derive(Debug)]
struct ReconnectTask {
    result: watch::Receiver<ReconnectResult>,
    task: AbortHandle,
}

impl Drop for ReconnectTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A stream, and the connection that it is received on.
#[derive(Debug)]
pub(crate) struct OpenStream {
    pub(crate) items: ItemReceiver,
    pub(crate) connection: Arc<Connection>,
}

impl ReconnectingTransport {
    /// Connects. Retries only after a connection that was closed during the handshake, and for an escherd
    /// that is not there where the connector says so.
    pub(crate) async fn connect(mut connector: Connector) -> Result<Arc<Self>, ConnectError> {
        let first = connector.attempt(connector.attempt_timeout()).await;
        let connected = match first {
            Err(error) if connector.waits_after(&error) => {
                match reconnect(&connector, Instant::now(), false).await {
                    Ok(connected) => connected,
                    Err(Error::DaemonUnavailable { source, .. }) => {
                        return Err(Arc::into_inner(source).unwrap_or(error));
                    }
                    Err(_) => return Err(error),
                }
            }
            first => first?,
        };
        connector.set_socket(connected.socket.clone());
        Ok(Arc::new(ReconnectingTransport {
            connector,
            socket: connected.socket,
            passed_over: connected.passed_over,
            state: Mutex::new(State {
                connection: connected.connection,
                last_outage: LastOutage::None,
                reconnecting: None,
            }),
            client: ClientId::generate(),
            sent_signals: AtomicU64::new(0),
        }))
    }

    /// Returns what escherd sent in the handshake of the current connection.
    pub(crate) fn welcome(&self) -> Welcome {
        self.lock().connection.welcome().clone()
    }

    pub(crate) fn socket(&self) -> &EscherdSocket {
        &self.socket
    }

    pub(crate) fn passed_over(&self) -> Option<&ConnectError> {
        self.passed_over.as_ref()
    }

    /// Returns the serial of the next signal.
    pub(crate) fn next_signal_serial(&self) -> SignalSerial {
        SignalSerial {
            client: self.client,
            number: self.sent_signals.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// Whether a lost connection is replaced: the reconnect timeout is not zero.
    pub(crate) fn reconnects(&self) -> bool {
        !self.connector.total_reconnect_timeout().is_zero()
    }

    /// Sends a request that is answered by one value. If it is idempotent, sends it again after each
    /// connection loss.
    pub(crate) async fn call(self: &Arc<Self>, request: Request) -> Result<Response, Error> {
        self.call_reporting_resend(request).await.0
    }

    /// Does the same as [`ReconnectingTransport::call`], and returns whether the request was sent more
    /// than once.
    pub(crate) async fn call_reporting_resend(
        self: &Arc<Self>,
        request: Request,
    ) -> (Result<Response, Error>, bool) {
        let (mut sent, mut resent) = (false, false);
        let response = async {
            let mut connection = self.current_connection().await?;
            loop {
                let loss = match connection.call(request.clone()).await {
                    Ok(mut pending) => {
                        resent = sent;
                        sent = true;
                        match pending.receive().await {
                            Err(error)
                                if error.is_connection_loss() && !is_idempotent(&request) =>
                            {
                                return Err(with_unknown_outcome(error));
                            }
                            Err(error) if error.is_connection_loss() => error,
                            response => return response,
                        }
                    }
                    Err(error) if error.is_connection_loss() => error,
                    Err(error) => return Err(error),
                };
                connection = self.next_connection(&connection, loss).await?;
            }
        };
        let response = response.await;
        (response, resent)
    }

    /// Sends a request that is answered by a stream.
    pub(crate) async fn open_stream(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<OpenStream, Error> {
        let connection = self.current_connection().await?;
        self.open_stream_on(connection, request).await
    }

    /// Sends a request that continues a stream after the loss of the connection `lost`.
    pub(crate) async fn resume_stream(
        self: &Arc<Self>,
        lost: &Arc<Connection>,
        cause: Error,
        request: Request,
    ) -> Result<OpenStream, Error> {
        let connection = self.next_connection(lost, cause).await?;
        self.open_stream_on(connection, request).await
    }

    async fn open_stream_on(
        self: &Arc<Self>,
        mut connection: Arc<Connection>,
        request: Request,
    ) -> Result<OpenStream, Error> {
        loop {
            match connection.stream(request.clone()).await {
                Ok(items) => return Ok(OpenStream { items, connection }),
                Err(error) if error.is_connection_loss() => {
                    connection = self.next_connection(&connection, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the current connection, or waits for the next one while the client reconnects.
    pub(crate) async fn current_connection(self: &Arc<Self>) -> Result<Arc<Connection>, Error> {
        let result = {
            let state = self.lock();
            match &state.reconnecting {
                None => return Ok(Arc::clone(&state.connection)),
                Some(task) => task.result.clone(),
            }
        };
        reconnected(result, Error::connection_aborted()).await
    }

    /// Returns the connection that replaces `lost`, which ended with `cause`. Waits for it while the
    /// client reconnects. If it does not reconnect, fails with `cause`.
    pub(crate) async fn next_connection(
        self: &Arc<Self>,
        lost: &Arc<Connection>,
        cause: Error,
    ) -> Result<Arc<Connection>, Error> {
        if !self.reconnects() {
            return Err(cause);
        }
        let result = {
            let mut state = self.lock();
            if !Arc::ptr_eq(&state.connection, lost) {
                return Ok(Arc::clone(&state.connection));
            }
            let task = match state.reconnecting.take() {
                Some(task) => task,
                None => self.spawn_reconnect(&state),
            };
            state.reconnecting.insert(task).result.clone()
        };
        reconnected(result, cause).await
    }

    fn spawn_reconnect(self: &Arc<Self>, state: &State) -> ReconnectTask {
        let lost = &state.connection;
        let was_useful = lost.has_response() || lost.age() >= RETRY_PAUSE;
        let (outage_start, pause_first) = match state.last_outage {
            LastOutage::Ongoing(start) => (start, false),
            // An escherd that accepts connections and drops them has not recovered: the outage goes
            // on. The pause keeps client and escherd from a busy loop.
            LastOutage::Ended(start) if !was_useful => (start, true),
            LastOutage::Ended(_) | LastOutage::None => (Instant::now(), false),
        };
        let (sender, result) = watch::channel(None);
        // Weak, so that the task does not keep a transport alive that nothing else uses.
        let transport = Arc::downgrade(self);
        let connector = self.connector.clone();
        let task = tokio::spawn(async move {
            let connected = reconnect(&connector, outage_start, pause_first).await;
            let result = connected.map(|connected| connected.connection);
            if let Some(transport) = transport.upgrade() {
                transport.finish_reconnect(outage_start, &result);
                // Fails only if nothing waits any more.
                let _ = sender.send(Some(result));
            }
        });
        ReconnectTask {
            result,
            task: task.abort_handle(),
        }
    }

    fn finish_reconnect(&self, outage_start: Instant, result: &Result<Arc<Connection>, Error>) {
        let mut state = self.lock();
        match result {
            Ok(connection) => {
                state.connection = Arc::clone(connection);
                state.last_outage = LastOutage::Ended(outage_start);
            }
            Err(_) => state.last_outage = LastOutage::Ongoing(outage_start),
        }
        state.reconnecting = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the result of a reconnect task. Returns `if_aborted` if the task ends without one,
/// which means that its runtime was shut down.
async fn reconnected(
    mut result: watch::Receiver<ReconnectResult>,
    if_aborted: Error,
) -> Result<Arc<Connection>, Error> {
    match result.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or(Err(if_aborted)),
        Err(_) => Err(if_aborted),
    }
}

/// Whether sending the request twice has the same effect as sending it once.
fn is_idempotent(request: &Request) -> bool {
    match request {
        Request::Submit(request) => request.key.is_some(),
        _ => true,
    }
}

/// Adds to a connection loss that the request may have been carried out.
fn with_unknown_outcome(loss: Error) -> Error {
    match loss {
        Error::Disconnected(source) => Error::Disconnected(Arc::new(io::Error::new(
            source.kind(),
            format!("{source}; it is not known whether the request was carried out"),
        ))),
        other => other,
    }
}
