//! What systemd is told, and what it hands over (sd_notify(3)). Without systemd all of this does nothing.
//!
//! What escherd has become is told where that happens; [`status`], [`watchdog`] and [`startup`] tell what goes on.
//! [`sockets`] takes what is handed over.

mod sockets;
mod startup;
mod status;
mod watchdog;

pub use sockets::Sockets;
pub use startup::extending_start;
pub use status::keep_status;
pub use watchdog::keep_watchdog;

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{debug, warn};

/// escherd serves.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Whether there is somebody to tell: a service manager that has started this process.
pub(crate) fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// How long systemd waits for a sign of life of escherd before it starts it again; `None`: it does not care.
pub(crate) fn watchdog_patience() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
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

/// What systemd is told again and again.
enum Word {
    Status(String),
    Alive,
    /// To wait on for so many microseconds.
    Wait(u32),
}

/// Tells it off the event loop: a systemd that is busy does not read, and then that blocks. Whether it was heard is
/// of no interest; there will be a next one.
async fn mention(word: Word) {
    let told = tokio::task::spawn_blocking(move || {
        sd_notify::notify(&[match &word {
            Word::Status(line) => NotifyState::Status(line),
            Word::Alive => NotifyState::Watchdog,
            Word::Wait(microseconds) => NotifyState::ExtendTimeoutUsec(*microseconds),
        }])
    });
    if let Ok(Err(error)) = told.await {
        debug!(%error, "systemd was not told");
    }
}
