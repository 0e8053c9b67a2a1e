//! The whole escherd, from settings to the last farewell.

use std::os::unix::net::UnixListener as Listener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use escher_protocol::message::DaemonInfo;
use escher_protocol::{InstanceId, Timestamp};
use nix::unistd::geteuid;
use tokio::net::UnixListener;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::api::{ExecutionEngine, FAREWELL, Ground};
use crate::authz::{AdminPermit, ServedUsers};
use crate::cli::Arguments;
use crate::config::{Configuration, Settings};
use crate::host::logging::Destination;
use crate::host::systemd;
use crate::journal;
use crate::reload::LiveConfiguration;
use crate::server::{self, Service, SocketSettings};

/// Runs escherd until `shutdown` is done. At each `hangup` it reads its configuration again, by `arguments`. Where it
/// logs to the journal, the lives of executions are told there.
///
/// # Errors
/// When it cannot start: directories, socket, launcher, each named.
pub async fn run(
    arguments: Arguments,
    configuration: Configuration,
    log: Destination,
    shutdown: impl Future<Output = ()>,
    hangup: Signal,
) -> anyhow::Result<()> {
    let settings = configuration.settings.clone();
    let ground = Ground::take(settings.engine.clone())?;
    // Clients may knock from here on; they are let in once everything is there.
    let sockets = systemd::Sockets::take().context("cannot use systemd's sockets")?;
    let listener = listen(&settings, sockets.clients)?;
    let metrics_listener = listen_for_metrics(&settings, sockets.metrics)?;
    let start = ground.start(settings.connections.max_connections);
    let engine = systemd::extending_start(start).await?;

    if log == Destination::Journal {
        let permit = engine.administer()?;
        tokio::spawn(journal::keep(engine.over_all(&permit)));
    }
    let service = Arc::new(Service {
        about: about(&settings, &engine),
        configuration: Arc::new(LiveConfiguration::new(arguments, configuration)),
        engine: engine.clone(),
        figures: server::Figures::default(),
    });
    let (close, closing) = watch::channel(false);
    if let Some(listener) = metrics_listener {
        let (service, closing) = (service.clone(), closing.clone());
        tokio::spawn(server::serve_metrics(listener, service, closing));
    }
    let serving = tokio::spawn(server::serve(listener, service.clone(), closing));
    info!(socket = %settings.socket.path.display(), "serving");
    systemd::ready();
    tokio::spawn(systemd::keep_status(engine.clone()));
    tokio::spawn(systemd::keep_watchdog(engine.clone()));

    tokio::select! {
        () = shutdown => {}
        () = reload_at(hangup, &service) => {}
    }
    systemd::stopping();
    engine.stop(settings.on_stop).await;
    close.send_replace(true);
    let (served, ()) = tokio::join!(timeout(FAREWELL, serving), engine.gone());
    if served.is_err() {
        warn!("some clients did not take their last answers");
    }
    info!("stopped");
    Ok(())
}

/// Reads the configuration again each time it is asked for. Faults are said in the log, and change nothing.
async fn reload_at(mut hangup: Signal, service: &Service) {
    while hangup.recv().await.is_some() {
        systemd::reloading();
        let permit = AdminPermit::from_signal();
        // It has said itself what came of it.
        let _ = service.configuration.reload(permit, &service.engine).await;
        systemd::ready();
    }
    // The runtime is about to end.
    std::future::pending().await
}

/// Listens for clients: where systemd does already, there and nowhere else.
fn listen(settings: &Settings, handed_over: Option<Listener>) -> anyhow::Result<UnixListener> {
    into_tokio(match handed_over {
        Some(listener) => listener,
        None => server::bind(&settings.socket)?,
    })
}

/// The same for those who fetch metrics, if anybody does. Where the socket is escherd's own, those who may use the other
/// one may use it, too.
fn listen_for_metrics(
    settings: &Settings,
    handed_over: Option<Listener>,
) -> anyhow::Result<Option<UnixListener>> {
    let listener = match (handed_over, &settings.metrics_socket) {
        (Some(listener), _) => listener,
        (None, Some(path)) => server::bind(&SocketSettings {
            path: path.clone(),
            ..settings.socket.clone()
        })?,
        (None, None) => return Ok(None),
    };
    into_tokio(listener).map(Some)
}

fn into_tokio(listener: Listener) -> anyhow::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// What does not change about this escherd; the rest is filled in when somebody asks.
fn about(settings: &Settings, engine: &ExecutionEngine) -> DaemonInfo {
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
