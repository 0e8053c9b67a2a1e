//! The whole escherd, from settings to the last farewell.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use escher_protocol::message::DaemonInfo;
use escher_protocol::{InstanceId, Timestamp};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::authz::{Gate, Reach};
use crate::cli::OnStop;
use crate::config::Settings;
use crate::engine::{self, Engine, EngineHandle, EngineSettings};
use crate::launch::{self, Connection, LauncherSettings};
use crate::server::{self, Service};
use crate::systemd;

/// How long clients may take for their last answers, and the launcher for its end. With the rest, escherd stops within a second.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs escherd until `shutdown` is done.
///
/// # Errors
/// When it cannot start: directories, socket, launcher, each named.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    make_directory(&settings.runtime_dir, 0o755)?;
    make_directory(&settings.state_dir, 0o700)?;
    make_directory(&settings.log_dir, 0o750)?;
    let _lock = lock(&settings.state_dir)?;
    let listener = listen(&settings)?;
    raise_descriptor_limit();

    let launcher = LauncherSettings {
        program: settings.launcher.clone(),
        log_dir: settings.log_dir.clone(),
        state_dir: settings.state_dir.clone(),
        warm_shims: settings.warm_shims,
    };
    let connection = Connection::open(&launcher).await?;
    let reach = match connection.uid() {
        0 => Reach::AllUsers,
        uid => Reach::Only(uid),
    };
    let (engine, effects) = engine::start(Engine::new(EngineSettings {
        request: settings.request,
        max_concurrent: settings.max_concurrent_executions,
        max_pending: settings.max_pending_executions,
        log_dir: settings.log_dir.clone(),
    }));
    let (pid, launcher_pid) = watch::channel(None);
    let launching = tokio::spawn(launch::run(
        launcher,
        connection,
        engine.clone(),
        effects,
        pid,
    ));

    let service = Arc::new(Service {
        engine: engine.clone(),
        gate: Gate::new(reach),
        about: about(&settings, reach),
        launcher_pid,
    });
    let (close, closing) = watch::channel(false);
    let serving = tokio::spawn(server::serve(
        listener,
        service,
        settings.connections,
        closing,
    ));
    info!(socket = %settings.socket.path.display(), "serving");
    systemd::ready("serving");

    shutdown.await;
    systemd::stopping();
    if settings.on_stop == OnStop::Cancel {
        info!("ending what runs");
        end_all(&engine).await;
    }
    engine.stop().await;
    close.send_replace(true);
    let (served, launched) = tokio::join!(timeout(FAREWELL, serving), timeout(FAREWELL, launching));
    if served.is_err() {
        warn!("some clients did not take their last answers");
    }
    if launched.is_err() {
        warn!("the launcher is still there");
    }
    info!("stopped");
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    let made = builder.create(path);
    made.with_context(|| format!("cannot make the directory {}", path.display()))
}

/// Two escherds on one state directory would each think that it owns it.
fn lock(state_dir: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    let path: PathBuf = state_dir.join("lock");
    let file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => anyhow::bail!(
            "another escherd uses the state directory {}",
            state_dir.display()
        ),
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn listen(settings: &Settings) -> anyhow::Result<UnixListener> {
    let listener = match systemd::listener().context("cannot use systemd's socket")? {
        Some(listener) => listener,
        None => server::bind(&settings.socket)?,
    };
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// Each connection and each running command takes a descriptor or two: as many as the host allows.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files cannot be raised");
    }
}

fn about(settings: &Settings, reach: Reach) -> DaemonInfo {
    let bytes = |path: &Path| path.as_os_str().into();
    DaemonInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: InstanceId::generate(),
        pid: std::process::id(),
        uid: geteuid().as_raw(),
        started_at: Timestamp::now(),
        serves_all_users: reach == Reach::AllUsers,
        launcher_pid: None,
        log_dir: bytes(&settings.log_dir),
        state_dir: bytes(&settings.state_dir),
        pending: 0,
        running: 0,
        finished: 0,
        max_concurrent_executions: settings.max_concurrent_executions as u64,
        max_pending_executions: settings.max_pending_executions as u64,
        default_timeout_ms: settings.request.default_timeout_ms,
        max_timeout_ms: settings.request.max_timeout_ms,
        max_output_size_bytes: settings.max_output_size_bytes,
    }
}

/// Runs the kill ladder for everything and waits until it is over. Bounded: each shim gives up on what
/// cannot be killed.
async fn end_all(engine: &EngineHandle) {
    let closed = engine.call(|engine| {
        engine.close(Timestamp::now());
        engine.watch_events()
    });
    let Ok(mut events) = closed.await else { return };
    loop {
        events.borrow_and_update();
        match engine.call(|engine| engine.counts()).await {
            Ok(counts) if counts.pending + counts.running > 0 => {}
            _ => return,
        }
        if events.changed().await.is_err() {
            return;
        }
    }
}
