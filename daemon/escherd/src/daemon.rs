//! escherd as a whole, from its configuration to its shutdown.

use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use escher_protocol::message::DaemonInfo;
use escher_protocol::{InstanceId, Timestamp};
use nix::unistd::geteuid;
use tokio::net::UnixListener;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::api::{ExecutionEngine, LockedDirs, SHUTDOWN_STEP_TIMEOUT};
use crate::authz::{AdminPermit, ServedUsers};
use crate::config::{
    ConfigError, Configuration, DaemonSettings, LoadOptions, OnStop, SocketSettings,
};
use crate::host::logging::LogDestination;
use crate::host::systemd::{self, ActivatedSockets};
use crate::reload::ActiveConfiguration;
use crate::server::{self, ServerContext};
use crate::{journal, start_failure, systemd_tasks};

/// Runs escherd until `stop_requested` completes; when it does so again, the stop does not wait for
/// commands that take long to end. Each `hangup` reloads the configuration by `options`.
/// With a log in the journal, the events of executions are written there too. Where escherd cannot
/// start, for example because its configuration has faults, clients that wait at a socket from
/// systemd are told.
///
/// # Errors
/// When escherd cannot start. The error names the directory, socket or launcher that is the cause.
pub async fn run(
    options: LoadOptions,
    configuration: Result<Configuration, ConfigError>,
    log: LogDestination,
    mut stop_requested: impl AsyncFnMut(),
    hangup: Signal,
) -> anyhow::Result<()> {
    let sockets = ActivatedSockets::take().context("cannot use the sockets from systemd")?;
    let waiting = sockets.try_clone()?;
    match start(configuration, sockets).await {
        Ok(started) => {
            drop(waiting);
            serve(started, options, log, stop_requested, hangup).await
        }
        Err(error) => {
            tokio::select! {
                () = start_failure::refuse_clients(waiting, &error) => {}
                () = stop_requested() => {}
            }
            Err(error)
        }
    }
}

/// An escherd that can serve.
struct Started {
    configuration: Configuration,
    engine: ExecutionEngine,
    listener: UnixListener,
    /// Whether escherd has made the socket for clients itself.
    is_socket_own: bool,
    metrics_listener: Option<UnixListener>,
}

async fn start(
    configuration: Result<Configuration, ConfigError>,
    sockets: ActivatedSockets,
) -> anyhow::Result<Started> {
    let configuration = configuration?;
    let settings = &configuration.settings;
    let directories = LockedDirs::lock(settings.engine.clone())?;
    let is_socket_own = sockets.clients.is_none();
    // Clients can connect from here on. They are served once the engine has started.
    let listener = listen(&settings.socket, sockets.clients)?;
    let metrics_listener = listen_for_metrics(settings, sockets.metrics)?;
    let start = ExecutionEngine::start(directories, settings.connections.max_connections);
    let engine = systemd_tasks::extend_start_timeout(start).await?;
    Ok(Started {
        configuration,
        engine,
        listener,
        is_socket_own,
        metrics_listener,
    })
}

async fn serve(
    started: Started,
    options: LoadOptions,
    log: LogDestination,
    mut stop_requested: impl AsyncFnMut(),
    hangup: Signal,
) -> anyhow::Result<()> {
    let Started {
        configuration,
        engine,
        listener,
        is_socket_own,
        metrics_listener,
    } = started;
    let settings = configuration.settings.clone();
    if log == LogDestination::Journal {
        let permit = engine.authorize_admin()?;
        tokio::spawn(journal::write_events(engine.unrestricted(&permit)));
    }
    let configuration = Arc::new(ActiveConfiguration::new(options, configuration));
    let reload_failure = configuration.watch_failure();
    let context = Arc::new(ServerContext::new(
        engine.clone(),
        configuration,
        static_info(&settings, &engine),
    ));
    let (close, closing) = watch::channel(false);
    if let Some(listener) = metrics_listener {
        let (context, closing) = (context.clone(), closing.clone());
        tokio::spawn(server::serve_metrics(listener, context, closing));
    }
    let (replacement, replacements) = mpsc::channel(1);
    let own_socket = is_socket_own.then(|| OwnSocket {
        settings: settings.socket.clone(),
        replacement,
    });
    let serving = server::serve(listener, replacements, context.clone(), closing);
    let serving = tokio::spawn(serving);
    info!(socket = %settings.socket.path.display(), "serving");
    systemd::ready();
    let status_updates = tokio::spawn(systemd_tasks::update_status(engine.clone(), reload_failure));
    tokio::spawn(systemd_tasks::feed_watchdog(engine.clone()));

    tokio::select! {
        () = stop_requested() => {}
        () = reload_on_hangup(hangup, &context, own_socket) => {}
    }
    systemd::stopping();
    if settings.on_stop == OnStop::Cancel {
        status_updates.abort();
        if let Some(awaited) = engine.awaited_commands().await {
            info!("{awaited}");
            systemd::status(&awaited);
        }
    }
    engine
        .shut_down_scheduler(settings.on_stop, stop_requested())
        .await;
    close.send_replace(true);
    let served = timeout(SHUTDOWN_STEP_TIMEOUT, serving);
    let (served, ()) = tokio::join!(served, engine.shut_down_launcher());
    if served.is_err() {
        warn!("some clients have not read their last answers");
    }
    info!("stopped");
    Ok(())
}

/// The socket for clients that escherd has made itself.
struct OwnSocket {
    settings: SocketSettings,
    /// Takes another listening socket for it.
    replacement: mpsc::Sender<UnixListener>,
}

impl OwnSocket {
    /// Makes the socket anew if something else has deleted it.
    async fn restore(&self) {
        let path = self.settings.path.display();
        if self.settings.path.symlink_metadata().is_ok() {
            return;
        }
        match listen(&self.settings, None) {
            Ok(listener) => {
                info!(socket = %path, "the socket was deleted; it is there again");
                let _ = self.replacement.send(listener).await;
            }
            Err(error) => {
                warn!(socket = %path, %error, "the socket was deleted and cannot be made")
            }
        }
    }
}

/// Reloads the configuration on each SIGHUP, and restores the socket. Problems go to the log.
async fn reload_on_hangup(
    mut hangup: Signal,
    context: &ServerContext,
    own_socket: Option<OwnSocket>,
) {
    while hangup.recv().await.is_some() {
        systemd::reloading();
        let permit = AdminPermit::from_signal();
        // The reload logs its result.
        let _ = context.reload(permit, &context.engine).await;
        if let Some(socket) = &own_socket {
            socket.restore().await;
        }
        systemd::ready();
    }
    // No more signals come, because the runtime is about to end.
    std::future::pending().await
}

/// Returns the listening socket for clients: systemd's if there is one, else a new one.
fn listen(
    settings: &SocketSettings,
    activated: Option<StdListener>,
) -> anyhow::Result<UnixListener> {
    into_tokio(match activated {
        Some(listener) => listener,
        None => server::bind(settings)?,
    })
}

/// Returns the listening socket for metrics: systemd's if there is one, else a new one if a path is
/// configured. A new one has the permissions of the socket for clients.
fn listen_for_metrics(
    settings: &DaemonSettings,
    activated: Option<StdListener>,
) -> anyhow::Result<Option<UnixListener>> {
    let listener = match (activated, &settings.metrics_socket) {
        (Some(listener), _) => listener,
        (None, Some(path)) => server::bind(&SocketSettings {
            path: path.clone(),
            ..settings.socket.clone()
        })?,
        (None, None) => return Ok(None),
    };
    into_tokio(listener).map(Some)
}

fn into_tokio(listener: StdListener) -> anyhow::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// Returns the information about this escherd that does not change. The counters in it are 0: each
/// answer completes it with their current values.
fn static_info(settings: &DaemonSettings, engine: &ExecutionEngine) -> DaemonInfo {
    let bytes = |path: &Path| path.as_os_str().into();
    DaemonInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: InstanceId::generate(),
        pid: std::process::id(),
        uid: geteuid().as_raw(),
        started_at: Timestamp::now(),
        serves_all_users: engine.served_users() == ServedUsers::All,
        launcher_pid: None,
        log_dir: bytes(&settings.engine.log_dir),
        state_dir: bytes(&settings.engine.state_dir),
        pending: 0,
        running: 0,
        finished: 0,
        max_concurrent_executions: 0,
        max_pending_executions: 0,
        default_timeout_ms: 0,
        max_timeout_ms: 0,
        max_output_size_bytes: 0,
    }
}
