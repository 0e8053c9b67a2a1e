//! Notifications to systemd, and the sockets that it passes (sd_notify(3), sd_listen_fds(3)).
//! Without systemd all of this does nothing.

use std::io;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{debug, warn};

/// Name of the socket for metrics (`FileDescriptorName=`, systemd.socket(5)).
const METRICS_SOCKET: &str = "metrics";

/// Notifies systemd that escherd serves clients.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Notifies systemd that escherd reloads its configuration, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot read the clock"),
    }
}

/// Notifies systemd that escherd is about to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Sets the line that `systemctl status` shows.
pub(crate) fn status(status: &str) {
    // The protocol has one line per notification.
    notify(&[NotifyState::Status(&status.replace('\n', " "))]);
}

/// Whether a service manager has started this process and takes notifications.
pub(crate) fn is_notifiable() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Returns the time after which systemd restarts an escherd that sends no sign of life; `None`: the
/// watchdog is off.
pub(crate) fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot notify systemd");
    }
}

/// A notification that is sent repeatedly.
pub(crate) enum PeriodicState {
    /// The line that `systemctl status` shows.
    Status(String),
    /// A sign of life for the watchdog.
    Alive,
    /// Extends the timeout of a start by this many microseconds.
    ExtendStart(u32),
}

/// Sends a notification off the event loop: a busy systemd does not read, and sending blocks then.
/// A failure is not worth a warning, because the next notification follows.
pub(crate) async fn notify_periodically(state: PeriodicState) {
    let sent = tokio::task::spawn_blocking(move || {
        sd_notify::notify(&[match &state {
            PeriodicState::Status(line) => NotifyState::Status(line),
            PeriodicState::Alive => NotifyState::Watchdog,
            PeriodicState::ExtendStart(microseconds) => {
                NotifyState::ExtendTimeoutUsec(*microseconds)
            }
        }])
    });
    if let Ok(Err(error)) = sent.await {
        debug!(%error, "cannot notify systemd");
    }
}

/// Listening sockets that systemd has passed.
#[derive(Debug, Default)]
pub struct ActivatedSockets {
    /// The socket for clients. It may have any name but that of the socket for metrics, because a
    /// unit with one socket need not name it.
    pub clients: Option<UnixListener>,
    /// The socket for metrics.
    pub metrics: Option<UnixListener>,
}

impl ActivatedSockets {
    /// Duplicates the descriptors.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let clone = |listener: &Option<UnixListener>| {
            listener.as_ref().map(UnixListener::try_clone).transpose()
        };
        Ok(ActivatedSockets {
            clients: clone(&self.clients)?,
            metrics: clone(&self.metrics)?,
        })
    }

    /// Takes the sockets. A second call returns none.
    ///
    /// # Errors
    /// When there are two sockets for one purpose, or a descriptor is not a listening Unix stream
    /// socket.
    pub fn take() -> io::Result<Self> {
        let mut sockets = ActivatedSockets::default();
        for (name, listener) in escher_launcher::os::socket_activation::listeners()? {
            let (socket, purpose) = match name.as_str() {
                METRICS_SOCKET => (&mut sockets.metrics, "metrics"),
                _ => (&mut sockets.clients, "clients"),
            };
            if socket.replace(listener).is_some() {
                let reason = format!("`{name}` is a second socket for {purpose}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
        }
        Ok(sockets)
    }
}
