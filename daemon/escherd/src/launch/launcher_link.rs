//! The link to the launcher: the current connection, and when to open the next one.

use std::io;
use std::time::Duration;

use escher_launcher::ipc::wire::{Abilities, LauncherRequest};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::launcher::{
    LauncherConnection, LauncherConnectionError, LauncherEvent, LauncherSettings, LauncherState,
};

/// Pause between two attempts to connect to a launcher, or to get shims from it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An event of the link.
pub(super) enum LinkEvent {
    /// The launcher has sent a message. Never [`LauncherEvent::Disconnected`].
    Launcher(LauncherEvent),
    /// There is a new launcher, which can do this.
    Connected(Abilities),
    /// The launcher has disconnected.
    Disconnected,
    /// Shims may be requested again, if there is a launcher.
    Resumed,
}

/// The connection to the launcher, which is opened again after its end.
pub(super) struct LauncherLink {
    settings: LauncherSettings,
    /// `None` while there is no launcher.
    connection: Option<LauncherConnection>,
    /// The attempt to open a connection that is under way.
    opening: Option<JoinHandle<Result<LauncherConnection, LauncherConnectionError>>>,
    retries: Retries,
    /// The user of every launcher: who may run what depends on it.
    uid: u32,
    state: watch::Sender<Option<LauncherState>>,
}

impl LauncherLink {
    /// Makes a link that starts with `connection`. Without one, the first launcher has to be root's.
    /// `state` shows the launcher that is connected.
    pub(super) fn new(
        settings: LauncherSettings,
        connection: Option<LauncherConnection>,
        state: watch::Sender<Option<LauncherState>>,
    ) -> Self {
        let link = LauncherLink {
            settings,
            opening: None,
            retries: Retries::new(connection.is_some(), Instant::now()),
            uid: connection.as_ref().map_or(0, LauncherConnection::uid),
            connection,
            state,
        };
        link.publish_state();
        link
    }

    /// Whether commands have cgroups, according to the connected launcher.
    pub(super) fn has_cgroups(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.abilities().cgroups.is_some())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether shims may be requested: there is a launcher, and no pause after a failure.
    pub(super) fn can_request_shims(&self) -> bool {
        self.connection.is_some() && self.retries.retry_at.is_none()
    }

    /// Requests `count` shims. Returns whether the request was sent; otherwise pauses.
    pub(super) fn request_shims(&mut self, count: u32) -> bool {
        match self.send(&LauncherRequest::Fork { count }) {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "cannot request shims from the launcher");
                self.retries.on_request_failed(Instant::now());
                false
            }
        }
    }

    /// Pauses requests for shims after a fork failed.
    pub(super) fn on_fork_failed(&mut self) {
        self.retries.on_fork_failed(Instant::now());
    }

    /// Sends a request to the launcher.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] while there is no launcher, and as sendmsg(2).
    pub(super) fn send(&self, request: &LauncherRequest) -> io::Result<()> {
        match &self.connection {
            Some(connection) => connection.send(request),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Waits for the next event, opening connections meanwhile. Cancel-safe.
    pub(super) async fn next_event(&mut self) -> LinkEvent {
        loop {
            tokio::select! {
                event = next_message(&mut self.connection) => match event {
                    LauncherEvent::Disconnected(error) => {
                        error!(%error, "the launcher is disconnected; running commands go on");
                        self.connection = None;
                        self.retries.on_disconnected(Instant::now());
                        self.publish_state();
                        return LinkEvent::Disconnected;
                    }
                    event => return LinkEvent::Launcher(event),
                },
                opened = finished(&mut self.opening) => {
                    self.opening = None;
                    if let Some(abilities) = self.on_opened(opened) {
                        return LinkEvent::Connected(abilities);
                    }
                }
                () = sleep_until_some(self.retries.retry_at) => {
                    self.retries.on_retry();
                    self.open();
                    return LinkEvent::Resumed;
                }
            }
        }
    }

    /// Closes the connection, and waits for the end of a launcher that is a child of this process.
    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }

    fn open(&mut self) {
        if self.connection.is_none() && self.opening.is_none() {
            let settings = self.settings.clone();
            let open = async move { LauncherConnection::open(&settings).await };
            self.opening = Some(tokio::spawn(open));
        }
    }

    /// Takes the new connection if it can be used, and returns what its launcher can do.
    fn on_opened(
        &mut self,
        opened: Result<Result<LauncherConnection, LauncherConnectionError>, JoinError>,
    ) -> Option<Abilities> {
        let usable = match opened {
            Ok(Ok(connection)) => check_uid(self.uid, connection.uid()).map(|()| connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match usable {
            Ok(connection) => {
                info!(pid = connection.pid(), "a new launcher is connected");
                let abilities = connection.abilities().clone();
                self.connection = Some(connection);
                self.retries.on_connected(Instant::now());
                self.publish_state();
                Some(abilities)
            }
            Err(error) => {
                if let Some(error) = self.retries.on_open_failed(error, Instant::now()) {
                    error!(%error, "there is no launcher; commands wait");
                }
                None
            }
        }
    }

    fn publish_state(&self) {
        let state = self.connection.as_ref().map(LauncherConnection::state);
        self.state.send_if_modified(|published| {
            let is_changed = *published != state;
            *published = state;
            is_changed
        });
    }
}

/// Sleeps until `deadline`, or for ever if there is none.
pub(super) async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn next_message(connection: &mut Option<LauncherConnection>) -> LauncherEvent {
    match connection {
        Some(connection) => connection.next_event().await,
        None => std::future::pending().await,
    }
}

async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Refuses a launcher of another user than `required`.
fn check_uid(required: u32, found: u32) -> Result<(), String> {
    if found == required {
        return Ok(());
    }
    Err(format!(
        "the launcher runs as user {found}, and has to run as {required}; restart escherd if that \
         is intended"
    ))
}

/// Decides when to try again, and which failures to report.
#[derive(Debug)]
struct Retries {
    connected_at: Instant,
    /// The end of the pause; until then no connection is opened, and no shim is requested.
    retry_at: Option<Instant>,
    /// The failure to open a connection that was reported last.
    last_error: Option<String>,
}

impl Retries {
    /// Starts with a connection, or with a pause after a first attempt that failed.
    fn new(is_connected: bool, now: Instant) -> Self {
        Retries {
            connected_at: now,
            retry_at: (!is_connected).then(|| now + RETRY_AFTER),
            last_error: None,
        }
    }

    fn on_connected(&mut self, now: Instant) {
        self.connected_at = now;
        self.last_error = None;
    }

    /// Has the next launcher opened at once, unless the last one died soon after it was connected.
    fn on_disconnected(&mut self, now: Instant) {
        self.retry_at = Some(now.max(self.connected_at + RETRY_AFTER));
    }

    /// Returns the error if it is to be reported: once, not with each attempt, since a launcher that
    /// was stopped may stay so for days.
    fn on_open_failed(&mut self, error: String, now: Instant) -> Option<&str> {
        self.retry_at = Some(now + RETRY_AFTER);
        if self.last_error.as_ref() == Some(&error) {
            return None;
        }
        Some(self.last_error.insert(error))
    }

    fn on_request_failed(&mut self, now: Instant) {
        self.retry_at = Some(now + RETRY_AFTER);
    }

    /// Pauses after the first of several failures; the others do not prolong the pause.
    fn on_fork_failed(&mut self, now: Instant) {
        self.retry_at.get_or_insert(now + RETRY_AFTER);
    }

    fn on_retry(&mut self) {
        self.retry_at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::launcher::LauncherSource;
    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    #[test]
    fn starts_with_a_pause_only_without_a_launcher() {
        let now = Instant::now();
        assert_eq!(Retries::new(true, now).retry_at, None);
        assert_eq!(Retries::new(false, now).retry_at, Some(now + RETRY_AFTER));
    }

    #[test]
    fn reconnects_at_once_unless_the_launcher_died_at_once() {
        let now = Instant::now();
        for (lived, retried_after) in [
            (Duration::ZERO, RETRY_AFTER),
            (SOON, RETRY_AFTER),
            (RETRY_AFTER, RETRY_AFTER),
            (10 * RETRY_AFTER, 10 * RETRY_AFTER),
        ] {
            let mut retries = Retries::new(false, now - RETRY_AFTER);
            retries.on_retry();
            retries.on_connected(now);
            assert_eq!(retries.retry_at, None);
            retries.on_disconnected(now + lived);
            assert_eq!(retries.retry_at, Some(now + retried_after), "{lived:?}");
        }
    }

    #[test]
    fn pauses_after_each_failed_attempt_and_reports_each_error_once() {
        let now = Instant::now();
        let mut retries = Retries::new(true, now);
        for (attempt, (error, is_reported)) in (1..).zip([
            ("refused", true),
            ("refused", false),
            ("no such file", true),
            ("refused", true),
            ("refused", false),
        ]) {
            let now = now + attempt * RETRY_AFTER;
            let reported = retries.on_open_failed(error.to_owned(), now);
            assert_eq!(reported, is_reported.then_some(error));
            assert_eq!(retries.retry_at, Some(now + RETRY_AFTER));
            retries.on_retry();
            assert_eq!(retries.retry_at, None);
        }
        retries.on_connected(now);
        let reported = retries.on_open_failed("refused".to_owned(), now);
        assert_eq!(reported, Some("refused"), "again after a connection");
    }

    #[test]
    fn pauses_after_failed_forks_and_requests() {
        let now = Instant::now();
        let mut retries = Retries::new(true, now);
        retries.on_fork_failed(now);
        retries.on_fork_failed(now + SOON);
        assert_eq!(retries.retry_at, Some(now + RETRY_AFTER));
        retries.on_request_failed(now + SOON);
        assert_eq!(retries.retry_at, Some(now + SOON + RETRY_AFTER));
        retries.on_disconnected(now + 10 * RETRY_AFTER);
        assert_eq!(retries.retry_at, Some(now + 10 * RETRY_AFTER), "at once");
    }

    #[test]
    fn every_launcher_has_to_be_of_the_same_user() {
        for uid in [0, 1000] {
            assert_eq!(check_uid(uid, uid), Ok(()));
            let error = check_uid(uid, 7).unwrap_err();
            assert!(error.contains("user 7,") && error.contains(&format!("as {uid};")));
        }
    }

    #[test]
    fn sends_nothing_without_a_launcher() {
        let settings = LauncherSettings {
            source: LauncherSource::Socket(PathBuf::new()),
            log_dir: PathBuf::new(),
            state_dir: PathBuf::new(),
            runtime_dir: PathBuf::new(),
            warm_shims: 1,
        };
        let (sender, state) = watch::channel(None);
        let link = LauncherLink::new(settings, None, sender);
        assert!(!link.is_connected() && !link.has_cgroups() && !link.can_request_shims());
        let error = link.send(&LauncherRequest::Fork { count: 1 }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert!(!state.has_changed().unwrap(), "nothing to publish");
    }
}
