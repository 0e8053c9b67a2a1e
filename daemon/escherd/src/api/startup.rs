//! The beginning of an engine: its directories, its store, and what an earlier one has left.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_protocol::{ApiError, ExecutionId, Timestamp};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::shutdown::Hold;
use super::{Core, ExecutionEngine};
use crate::api::cleanup;
use crate::authz::{Authorizer, Caller, ServedUsers};
use crate::config::{ConfigError, EngineConfig, ExecutionSettings};
use crate::host::boot_id::Boot;
use crate::host::fd_budget::{FdBudget, FdShares};
use crate::launch::{
    self, Adoption, LaunchError, LauncherConnection, LauncherSettings, LauncherSource,
};
use crate::output::OversizedOutput;
use crate::scheduler::{self, RecoveredState, Scheduler, SchedulerHandle, SchedulerSettings};
use crate::store::{self, CommitOutcome, LoadedState, Store, StoreError, StoreSettings};

/// How long service may wait for what was found at the start to be on disk. It takes milliseconds, unless there
/// is no room.
const SETTLING: Duration = Duration::from_secs(2);

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that make no sense, one line each.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A directory cannot be made or used.
    #[error("cannot use the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory of the logs cannot be made, or is not as private as it has to be.
    #[error("{0}")]
    LogDirectory(#[source] io::Error),
    /// Two on one state directory would each think that it owns it.
    #[error("another escherd uses the state directory {0}")]
    InUse(PathBuf),
    /// There is no launcher to start commands.
    #[error(transparent)]
    Launcher(#[from] LaunchError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What an earlier engine has left cannot be looked through.
    #[error("cannot look for what an earlier escherd has left: {0}")]
    Artifact(#[source] io::Error),
    /// Who this process runs as cannot be found out.
    #[error("cannot find out who this process runs as: {0}")]
    Identity(#[source] io::Error),
    /// The user database or the store cannot be asked, or this user is none of this host's.
    #[error(transparent)]
    Unanswered(#[from] ApiError),
}

/// What the state has to keep to, by `config` and what is set now.
pub(super) fn engine_settings(
    config: &EngineConfig,
    settings: &ExecutionSettings,
    budget: FdBudget,
) -> SchedulerSettings {
    SchedulerSettings {
        request: settings.request,
        max_concurrent: budget.executions,
        max_pending: settings.max_pending_executions,
        max_pending_bytes: settings.max_pending_bytes,
        max_in_memory: settings.max_in_memory_executions,
        log_dir: config.log_dir.clone(),
        log_limits: settings.log_limits,
        output_limit: (settings.output.oversized == OversizedOutput::Fail)
            .then_some(settings.output.max_bytes),
        durability: config.durability,
    }
}

fn launcher(config: &EngineConfig) -> LauncherSettings {
    LauncherSettings {
        source: match &config.launcher_socket {
            Some(socket) => LauncherSource::Socket(socket.clone()),
            None => LauncherSource::Program(config.launcher.clone()),
        },
        log_dir: config.log_dir.clone(),
        state_dir: config.state_dir.clone(),
        runtime_dir: config.runtime_dir.clone(),
        warm_shims: config.warm_shims,
    }
}

/// Directories that are this engine's alone.
#[derive(Debug)]
pub(crate) struct Ground {
    config: EngineConfig,
    lock: Flock<File>,
}

impl Ground {
    /// Makes the directories that are not there, and takes them.
    ///
    /// # Errors
    /// [`StartError::Config`], [`StartError::LogDirectory`], [`StartError::Directory`], [`StartError::InUse`].
    pub(crate) fn take(config: EngineConfig) -> Result<Self, StartError> {
        config.validate()?;
        // The others may be inside of it, and then it is to be private.
        config.make_log_dir().map_err(StartError::LogDirectory)?;
        make_directory(&config.runtime_dir, 0o755)?;
        make_directory(&config.state_dir, 0o700)?;
        let lock = lock(&config.state_dir)?;
        Ok(Ground { config, lock })
    }

    /// Starts an engine there, in a process that serves so many connections beside it.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) async fn start(self, connections: usize) -> Result<ExecutionEngine, StartError> {
        let Ground { config, lock } = self;
        let settings = config.executions;
        let shares = FdShares::new(settings.max_concurrent_executions, connections);
        let boot = Boot::read(&config.state_dir).map_err(directory(&config.state_dir))?;
        let (settled, outcomes) = mpsc::unbounded_channel();
        let (store, loaded) = open_store(&config, settled).await?;
        let launcher = launcher(&config);
        let connection = connect(&launcher).await?;
        let authorizer = Authorizer::new(match connection.as_ref().map(LauncherConnection::uid) {
            // The first launcher to connect has to be root's: see `launch::run`.
            None | Some(0) => ServedUsers::All,
            Some(uid) => ServedUsers::Only(uid),
        });
        let own = Caller::own_credentials().map_err(StartError::Identity)?;
        let caller = authorizer.authenticate(own).await?;
        let (adoption, mut findings) = look_around(&launcher, loaded, &store).await?;
        findings.rebooted = boot.has_rebooted();
        findings.on_boot = config.on_boot;
        let mut engine = Scheduler::restore(
            engine_settings(&config, &settings, shares.budget()),
            findings,
            Timestamp::now(),
        );
        let abilities = connection.as_ref().map(LauncherConnection::abilities);
        engine.set_controllers(abilities.and_then(|abilities| abilities.cgroups));
        let metrics = engine.metrics();
        let writer = store.clone();
        let (engine, effects) =
            scheduler::start(engine, outcomes, move |entries| writer.write(entries));
        let (told, connected) = watch::channel(None);
        let launching = launch::run(
            launcher,
            connection,
            adoption,
            engine.clone(),
            effects,
            told,
        );
        let launching = tokio::spawn(launching);
        settle(&engine, boot).await;

        let (settings, changes) = watch::channel(settings);
        tokio::spawn(cleanup::run(changes, engine.clone(), store.clone()));
        let scope = Arc::new(authorizer.scope(&caller));
        let core = Core {
            config,
            engine,
            store,
            metrics,
            shares,
            authorizer,
            settings,
            launcher: connected,
            hold: Mutex::new(Some(Hold {
                _lock: lock,
                launching,
            })),
        };
        Ok(ExecutionEngine {
            core: Arc::new(core),
            caller: Arc::new(caller),
            scope,
        })
    }
}

impl ExecutionEngine {
    /// Makes an engine of its own in this process, on directories of its own, and takes over what an earlier one
    /// on them has left: what waits, what runs, what has ended. It starts the launcher, which has to be there.
    ///
    /// # Errors
    /// [`StartError`]: settings, directories, another engine on them, the launcher, the store.
    pub async fn new(config: EngineConfig) -> Result<Self, StartError> {
        Ground::take(config)?.start(0).await
    }
}

fn directory(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Directory { path, source }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), StartError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(path).map_err(directory(path))
}

fn lock(state_dir: &Path) -> Result<Flock<File>, StartError> {
    let path = state_dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(directory(&path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => Err(StartError::InUse(state_dir.to_owned())),
        Err((_, error)) => Err(directory(&path)(error.into())),
    }
}

/// Opens the store, off the event loop: it may be large, or damaged.
async fn open_store(
    config: &EngineConfig,
    settled: mpsc::UnboundedSender<Vec<(u64, CommitOutcome)>>,
) -> Result<(Store, LoadedState), StartError> {
    let path = config.state_dir.join(store::FILE_NAME);
    let settings = StoreSettings {
        durability: config.durability,
        max_events: scheduler::MAX_KEPT_EVENTS,
    };
    let opened = tokio::task::spawn_blocking(move || {
        store::open(&path, settings, move |outcomes| {
            // Nobody there: the engine is stopping.
            let _ = settled.send(outcomes);
        })
    });
    let opened = opened.await;
    // It has said itself what it has set aside.
    let (store, loaded, _) = opened.map_err(|error| StartError::Artifact(error.into()))??;
    Ok((store, loaded))
}

/// The launcher. One that is a service of its own may come later: what has ended can be asked for without it, and what
/// waits goes on waiting.
async fn connect(launcher: &LauncherSettings) -> Result<Option<LauncherConnection>, LaunchError> {
    match LauncherConnection::open(launcher).await {
        Err(error) if matches!(launcher.source, LauncherSource::Socket(_)) => {
            error!(%error, "there is no launcher; commands wait");
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// Finds the shims of an earlier engine, and what those that are gone have left.
async fn look_around(
    launcher: &LauncherSettings,
    loaded: LoadedState,
    store: &Store,
) -> Result<(Adoption, RecoveredState), StartError> {
    let adoption = launch::adopt(&launcher.runtime_dir).await;
    let adoption = adoption.map_err(StartError::Artifact)?;
    // After the shims: one that ends meanwhile has left its record by then.
    let records = launch::exit_records(&launcher.state_dir).map_err(StartError::Artifact)?;
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
        .chain(records.reports.iter().map(|report| report.id));
    for id in told_of.filter(|id| !unfinished.contains(id)) {
        if store.find(None, &id.into()).await?.is_some() {
            known.insert(id);
        }
    }
    if !(shims.is_empty() && unfinished.is_empty()) {
        info!(
            shims = shims.len(),
            exit_records = records.reports.len(),
            unfinished = unfinished.len(),
            "going on where an earlier escherd was"
        );
    }
    let findings = RecoveredState {
        silent: adoption.silent(),
        claims: adoption.claims.clone(),
        is_doubtful: adoption.is_doubtful,
        loaded,
        shims,
        reports: records.reports,
        of_another_version: records.of_another_version,
        known,
        ..RecoveredState::default()
    };
    Ok((adoption, findings))
}

/// Waits until what was found is on disk, so that whoever asks finds it too, and notes the run of the host:
/// only then has everything followed from its being another one. Where the disk is full, that comes later.
async fn settle(engine: &SchedulerHandle, boot: Boot) {
    let engine = engine.clone();
    let noted = tokio::spawn(async move {
        if engine.committed().await.is_ok()
            && let Err(error) = boot.record()
        {
            warn!(%error, "it cannot be noted which run of the host this is");
        }
    });
    if timeout(SETTLING, noted).await.is_err() {
        warn!("what was found cannot be written down yet");
    }
}
