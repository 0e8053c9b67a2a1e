//! The whole escherd, from settings to the last farewell.

use std::collections::HashSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use escher_protocol::message::DaemonInfo;
use escher_protocol::{ExecutionId, InstanceId, Timestamp};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::authz::{Gate, Reach};
use crate::boot::Boot;
use crate::cleanup;
use crate::cli::OnStop;
use crate::config::Settings;
use crate::descriptors::{self, Budget};
use crate::engine::{self, Engine, EngineHandle, EngineSettings, Findings};
use crate::launch::{self, Adoption, Connection, LauncherSettings};
use crate::server::{self, ConnectionLimits, Service};
use crate::store::{self, Loaded, Store, StoreSettings, Verdict};
use crate::systemd;

/// How long service may wait for what was found at the start to be on disk. It takes milliseconds, unless there
/// is no room.
const SETTLING: Duration = Duration::from_secs(2);

/// How long clients may take for their last answers, and the launcher for its end. With the rest, escherd stops within a second.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs escherd until `shutdown` is done.
///
/// # Errors
/// When it cannot start: directories, socket, launcher, each named.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    settings.engine.make_log_dir()?;
    make_directory(&settings.engine.runtime_dir, 0o755)?;
    make_directory(&settings.engine.state_dir, 0o700)?;
    let _lock = lock(&settings.engine.state_dir)?;
    let listener = listen(&settings)?;
    let budget = descriptors::divide(
        settings.engine.executions.max_concurrent_executions,
        settings.connections.max_connections,
    );

    let (settled, verdicts) = mpsc::unbounded_channel();
    let boot = Boot::read(&settings.engine.state_dir)
        .context("cannot tell whether the host was started anew")?;
    let (store, loaded) = open_store(&settings, settled).await?;
    let launcher = LauncherSettings {
        program: settings.engine.launcher.clone(),
        log_dir: settings.engine.log_dir.clone(),
        state_dir: settings.engine.state_dir.clone(),
        runtime_dir: settings.engine.runtime_dir.clone(),
        warm_shims: settings.engine.warm_shims,
    };
    let connection = Connection::open(&launcher).await?;
    let reach = match connection.uid() {
        0 => Reach::AllUsers,
        uid => Reach::Only(uid),
    };
    let (adoption, findings) = look_around(&settings, loaded, &store, &boot).await?;
    let engine = Engine::restore(
        engine_settings(&settings, &budget),
        findings,
        Timestamp::now(),
    );
    let writer = store.clone();
    let (engine, effects) = engine::start(engine, verdicts, move |entries| writer.write(entries));
    let (pid, launcher_pid) = watch::channel(None);
    let launching = tokio::spawn(launch::run(
        launcher,
        connection,
        adoption,
        engine.clone(),
        effects,
        pid,
    ));
    settle(&engine, boot).await;
    tokio::spawn(cleanup::run(
        settings.engine.executions.cleanup,
        engine.clone(),
        store.clone(),
    ));

    let service = Arc::new(Service {
        engine: engine.clone(),
        store: store.clone(),
        open_logs: Semaphore::new(budget.logs),
        gate: Gate::new(reach),
        about: about(&settings, &budget, reach),
        launcher_pid,
    });
    let (close, closing) = watch::channel(false);
    let serving = tokio::spawn(server::serve(
        listener,
        service,
        ConnectionLimits {
            max_connections: budget.connections,
            ..settings.connections
        },
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
    let settled = timeout(FAREWELL, engine.settled()).await.is_ok();
    engine.stop().await;
    if !settled || store.close(FAREWELL).await.is_err() {
        warn!("the store cannot be written; shims keep what is not on disk");
    }
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

/// Opens the store, off the event loop: it may be large, or damaged.
async fn open_store(
    settings: &Settings,
    settled: mpsc::UnboundedSender<Vec<(u64, Verdict)>>,
) -> anyhow::Result<(Store, Loaded)> {
    let path = settings.engine.state_dir.join(store::FILE_NAME);
    let store_settings = StoreSettings {
        durability: settings.engine.durability,
        kept_events: engine::MAX_KEPT_EVENTS,
    };
    let opened = tokio::task::spawn_blocking(move || {
        store::open(&path, store_settings, move |verdicts| {
            // Nobody there: escherd is stopping.
            let _ = settled.send(verdicts);
        })
    });
    // It has said itself what it has set aside.
    let (store, loaded, _) = opened.await??;
    Ok((store, loaded))
}

/// Finds the shims of an earlier escherd, and what those that are gone have left.
async fn look_around(
    settings: &Settings,
    loaded: Loaded,
    store: &Store,
    boot: &Boot,
) -> anyhow::Result<(Adoption, Findings)> {
    let adoption = launch::adopt(&settings.engine.runtime_dir)
        .await
        .context("cannot look for the shims of an earlier escherd")?;
    // After the shims: one that ends meanwhile has left its record by then.
    let reports =
        launch::exit_records(&settings.engine.state_dir).context("cannot read exit records")?;
    let shims = adoption.states();
    let unfinished: HashSet<ExecutionId> = loaded
        .unfinished
        .iter()
        .map(|unfinished| unfinished.submission.id)
        .collect();
    let mut known = HashSet::new();
    let told_of = shims
        .iter()
        .map(|shim| shim.id)
        .chain(reports.iter().map(|report| report.id));
    for id in told_of.filter(|id| !unfinished.contains(id)) {
        if store.find(None, &id.into()).await?.is_some() {
            known.insert(id);
        }
    }
    if !(shims.is_empty() && unfinished.is_empty()) {
        info!(
            shims = shims.len(),
            exit_records = reports.len(),
            unfinished = unfinished.len(),
            "going on where an earlier escherd was"
        );
    }
    let findings = Findings {
        silent: adoption.silent(),
        claims: adoption.claims.clone(),
        is_doubtful: adoption.is_doubtful,
        rebooted: boot.is_another(),
        on_boot: settings.engine.on_boot,
        loaded,
        shims,
        reports,
        known,
    };
    Ok((adoption, findings))
}

/// Waits until what was found is on disk, so that whoever asks finds it too, and notes the run of the host:
/// only then has everything followed from its being another one. Where the disk is full, that comes later.
async fn settle(engine: &EngineHandle, boot: Boot) {
    let engine = engine.clone();
    let noted = tokio::spawn(async move {
        if engine.settled().await.is_ok()
            && let Err(error) = boot.note()
        {
            warn!(%error, "it cannot be noted which run of the host this is");
        }
    });
    if timeout(SETTLING, noted).await.is_err() {
        warn!("what was found cannot be written down yet");
    }
}

fn engine_settings(settings: &Settings, budget: &Budget) -> EngineSettings {
    EngineSettings {
        request: settings.engine.executions.request,
        max_concurrent: budget.executions,
        max_pending: settings.engine.executions.max_pending_executions,
        max_pending_bytes: settings.engine.executions.max_pending_bytes,
        max_in_memory: settings.engine.executions.max_in_memory_executions,
        log_dir: settings.engine.log_dir.clone(),
        log_limits: settings.engine.executions.log_limits,
        durability: settings.engine.durability,
    }
}

fn about(settings: &Settings, budget: &Budget, reach: Reach) -> DaemonInfo {
    let bytes = |path: &Path| path.as_os_str().into();
    DaemonInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: InstanceId::generate(),
        pid: std::process::id(),
        uid: geteuid().as_raw(),
        started_at: Timestamp::now(),
        serves_all_users: reach == Reach::AllUsers,
        launcher_pid: None,
        log_dir: bytes(&settings.engine.log_dir),
        state_dir: bytes(&settings.engine.state_dir),
        pending: 0,
        running: 0,
        finished: 0,
        max_concurrent_executions: budget.executions as u64,
        max_pending_executions: settings.engine.executions.max_pending_executions as u64,
        default_timeout_ms: settings.engine.executions.request.default_timeout_ms,
        max_timeout_ms: settings.engine.executions.request.max_timeout_ms,
        max_output_size_bytes: settings.engine.executions.output.max_bytes,
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
