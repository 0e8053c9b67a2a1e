//! What systemd is told, and what it hands over. Without systemd all of this does nothing.

use std::os::unix::net::UnixListener;

use sd_notify::NotifyState;
use tracing::warn;

/// escherd serves.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// escherd reads its configuration again; [`ready`] says when that is done.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the clock cannot be read"),
    }
}

/// escherd is about to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd cannot be notified");
    }
}

/// The socket that systemd listens on for escherd (sd_listen_fds(3)), if it does.
///
/// # Errors
/// When what was handed over is not one stream socket.
pub fn listener() -> std::io::Result<Option<UnixListener>> {
    escher_launcher::activation::listener()
}
