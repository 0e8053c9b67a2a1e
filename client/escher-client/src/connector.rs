//! How to connect: the socket, the client's name, timeouts, and the listener for outages.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use escher_protocol::Text;
use escher_protocol::handshake::Hello;
use escher_protocol::socket_paths::ensure_private;
use nix::unistd::geteuid;

use crate::connection::{Connection, connect_socket, handshake};
use crate::error::ConnectError;
use crate::socket_choice::{EscherdSocket, SocketChoice};

/// The default of [`Connector::connect_timeout`].
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of [`Connector::reconnect_timeout`].
pub const DEFAULT_RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Configures and makes the connection of a [`Client`](crate::Client).
///
/// ```no_run
/// # async fn example() -> Result<(), escher_client::ConnectError> {
/// use std::time::Duration;
/// use escher_client::Connector;
///
/// let client = Connector::new("/run/escher/escherd.sock")
///     .client_name("backup 2.1")
///     .reconnect_timeout(Duration::from_secs(300))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a connector does nothing until `connect` is called"]
pub struct Connector {
    sockets: SocketChoice,
    client_name: Text,
    connect_timeout: Duration,
    reconnect_timeout: Duration,
    waits_for_daemon: bool,
    listener: Listener,
}

impl Connector {
    /// Creates a connector to the socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Connector::to(SocketChoice::path(path))
    }

    /// Creates a connector to the escherd of this choice. What it has connected to is
    /// [`Client::socket`](crate::Client::socket); the client reconnects to that alone.
    pub fn to(sockets: SocketChoice) -> Self {
        Connector {
            sockets,
            client_name: concat!("escher-client ", env!("CARGO_PKG_VERSION")).into(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            reconnect_timeout: DEFAULT_RECONNECT_TIMEOUT,
            waits_for_daemon: false,
            listener: Listener::default(),
        }
    }

    /// Sets the program name and version that escherd logs, such as `backup 2.1`.
    ///
    /// It grants no authority. It must fit into the handshake frame of 4 KiB.
    pub fn client_name(mut self, name: impl Into<Text>) -> Self {
        self.client_name = name.into();
        self
    }

    /// Sets how long one attempt to connect may take, including the handshake. The default is
    /// [`DEFAULT_CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long the client tries to reconnect when the connection is lost. The default is
    /// [`DEFAULT_RECONNECT_TIMEOUT`].
    ///
    /// The time counts from the first request that notices the loss. When it is over, all requests
    /// that wait for the connection fail with
    /// [`Error::DaemonUnavailable`](crate::Error::DaemonUnavailable). With a timeout of zero the client
    /// never reconnects: requests fail with [`Error::Disconnected`](crate::Error::Disconnected).
    pub fn reconnect_timeout(mut self, timeout: Duration) -> Self {
        self.reconnect_timeout = timeout;
        self
    }

    /// Sets whether the first connection waits for an escherd that is not there, as long as the reconnect
    /// timeout says. The default is that it fails at once.
    pub fn wait_for_daemon(mut self, waits: bool) -> Self {
        self.waits_for_daemon = waits;
        self
    }

    /// Sets a function that is called when the client starts and stops waiting for escherd.
    ///
    /// It runs in a task of the client, so it must not block.
    pub fn on_reconnect(
        mut self,
        listener: impl Fn(ReconnectEvent) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Listener(Some(Arc::new(listener)));
        self
    }

    /// Makes one attempt to connect, which may take `timeout` for each socket that may be used.
    pub(crate) async fn attempt(&self, timeout: Duration) -> Result<Connected, ConnectError> {
        let preferred = self.sockets.preferred();
        let unusable = match self.attempt_at(preferred, timeout).await {
            Err(error) if error.is_of_unusable_socket() => error,
            attempted => return attempted,
        };
        let Some(own) = self.sockets.alternative() else {
            return Err(unusable);
        };
        match self.attempt_at(own, timeout).await {
            Ok(connected) => Ok(Connected {
                passed_over: Some(unusable),
                ..connected
            }),
            Err(
                error @ (ConnectError::NoDaemon { .. }
                | ConnectError::PermissionDenied { .. }
                | ConnectError::UntrustedDirectory { .. }),
            ) => Err(ConnectError::NeitherUsable {
                system: Box::new(unusable),
                own: Box::new(error),
            }),
            Err(error) => Err(error),
        }
    }

    async fn attempt_at(
        &self,
        socket: &EscherdSocket,
        timeout: Duration,
    ) -> Result<Connected, ConnectError> {
        let connecting = self.connect_and_handshake(socket, timeout);
        match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => Ok(Connected {
                connection: connected?,
                socket: socket.clone(),
                passed_over: None,
            }),
            Err(_) => Err(ConnectError::Timeout {
                path: socket.path().to_owned(),
                timeout,
            }),
        }
    }

    async fn connect_and_handshake(
        &self,
        socket: &EscherdSocket,
        timeout: Duration,
    ) -> Result<Arc<Connection>, ConnectError> {
        check_directory(socket)?;
        let path = socket.path();
        let mut stream = connect_socket(path, timeout).await?;
        let hello = Hello::new(self.client_name.clone());
        let (welcome, received) = handshake(&mut stream, &hello)
            .await
            .map_err(|error| error.into_connect_error(path.to_owned()))?;
        Ok(Connection::start(stream, received, welcome))
    }

    /// Has further attempts use this socket alone.
    pub(crate) fn set_socket(&mut self, socket: EscherdSocket) {
        self.sockets = socket.into();
    }

    /// Returns the path of the socket that is used if it can be.
    pub(crate) fn socket_path(&self) -> &Path {
        self.sockets.preferred().path()
    }

    /// Returns the paths of all sockets that may be used.
    pub(crate) fn socket_paths(&self) -> impl Iterator<Item = &Path> {
        let sockets = [Some(self.sockets.preferred()), self.sockets.alternative()];
        sockets.into_iter().flatten().map(EscherdSocket::path)
    }

    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns how long to try to reconnect; zero disables reconnecting.
    pub(crate) fn total_reconnect_timeout(&self) -> Duration {
        self.reconnect_timeout
    }

    /// Whether to wait for the first connection after this error.
    pub(crate) fn waits_after(&self, error: &ConnectError) -> bool {
        let is_worth_it =
            error.is_closed_during_handshake() || (error.is_absence() && self.waits_for_daemon);
        is_worth_it && !self.reconnect_timeout.is_zero()
    }

    pub(crate) fn notify(&self, event: ReconnectEvent) {
        if let Some(listener) = &self.listener.0 {
            listener(event);
        }
    }
}

/// What an attempt to connect has led to.
pub(crate) struct Connected {
    pub(crate) connection: Arc<Connection>,
    /// The socket of the connection.
    pub(crate) socket: EscherdSocket,
    /// Why the preferred socket is not used, if it is another one.
    pub(crate) passed_over: Option<ConnectError>,
}

/// Checks the directory of a socket where others could have created it.
fn check_directory(socket: &EscherdSocket) -> Result<(), ConnectError> {
    let Some(dir) = socket.private_dir() else {
        return Ok(());
    };
    let path = socket.path().to_owned();
    ensure_private(dir, geteuid().as_raw()).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConnectError::NoDaemon { path, source },
        _ => ConnectError::UntrustedDirectory { path, source },
    })
}

/// A step of reconnecting, as reported to [`Connector::on_reconnect`].
///
/// Nothing is reported when the first attempt to reconnect succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconnectEvent {
    /// escherd is unavailable, and the client waits for it.
    Waiting,
    /// The client has reconnected. Requests and streams continue.
    Reconnected,
    /// The client gave up: the timeout expired, or the new escherd cannot serve this client.
    GaveUp,
}

#[derive(Clone, Default)]
struct Listener(Option<Arc<dyn Fn(ReconnectEvent) + Send + Sync>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "set" } else { "none" })
    }
}
