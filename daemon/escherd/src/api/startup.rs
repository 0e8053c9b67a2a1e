//! The start of an engine, which takes over the executions of an earlier one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_protocol::{ExecutionId, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::cleanup;
use super::locked_dirs::{LockedDirs, directory_error};
use super::shutdown::ShutdownHandles;
use super::start_error::StartError;
use super::{Core, ExecutionEngine};
use crate::authz::{Authorizer, Caller, ServedUsers};
use crate::config::{EngineConfig, ExecutionSettings};
use crate::host::boot_id::Boot;
use crate::host::fd_budget::{FdBudget, FdShares};
use crate::launch::{
    self, Adoption, LaunchError, LauncherConnection, LauncherSettings, LauncherSource,
};
use crate::output::OversizedOutput;
use crate::scheduler::{self, RecoveredState, Scheduler, SchedulerHandle, SchedulerSettings};
use crate::store::{self, CommitOutcome, LoadedState, Store, StoreSettings};

/// How long the start waits for the commit of the recovered state. That takes milliseconds unless
/// the disk is full.
const RECOVERY_COMMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the scheduler's settings for `config` and the settings in force.
pub(super) fn scheduler_settings(
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

fn launcher_settings(config: &EngineConfig) -> LauncherSettings {
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

impl LockedDirs {
    /// Starts an engine on these directories, in a process that serves at most `connections`
    /// connections.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) async fn start_engine(
        self,
        connections: usize,
    ) -> Result<ExecutionEngine, StartError> {
        let LockedDirs { config, lock } = self;
        let settings = config.executions;
        let fd_shares = FdShares::new(settings.max_concurrent_executions, connections);
        let boot = Boot::read(&config.state_dir).map_err(directory_error(&config.state_dir))?;
        let (outcome_sender, outcomes) = mpsc::unbounded_channel();
        let (store, loaded) = open_store(&config, outcome_sender).await?;
        let launcher = launcher_settings(&config);
        let connection = connect_to_launcher(&launcher).await?;
        let authorizer = Authorizer::new(match connection.as_ref().map(LauncherConnection::uid) {
            // A launcher that comes later must be root's: see `launch::run`.
            None | Some(0) => ServedUsers::All,
            Some(uid) => ServedUsers::Only(uid),
        });
        let own = Caller::own_credentials().map_err(StartError::Identity)?;
        let caller = authorizer.authenticate(own).await?;
        let (adoption, mut recovered) = recover(&launcher, loaded, &store).await?;
        recovered.rebooted = boot.has_rebooted();
        recovered.on_boot = config.on_boot;
        let mut scheduler = Scheduler::restore(
            scheduler_settings(&config, &settings, fd_shares.budget()),
            recovered,
            Timestamp::now(),
        );
        let abilities = connection.as_ref().map(LauncherConnection::abilities);
        scheduler.set_controllers(abilities.and_then(|abilities| abilities.cgroups));
        let metrics = scheduler.metrics();
        let writer = store.clone();
        let (scheduler, effects) =
            scheduler::start(scheduler, outcomes, move |entries| writer.write(entries));
        let (launcher_state, connected_launcher) = watch::channel(None);
        let launch_task = tokio::spawn(launch::run(
            launcher,
            connection,
            adoption,
            scheduler.clone(),
            effects,
            launcher_state,
        ));
        await_recovery_commit(&scheduler, boot).await;

        let (settings, settings_changes) = watch::channel(settings);
        tokio::spawn(cleanup::run(
            settings_changes,
            scheduler.clone(),
            store.clone(),
        ));
        let scope = Arc::new(authorizer.scope(&caller));
        let core = Core {
            config,
            scheduler,
            store,
            metrics,
            fd_shares,
            authorizer,
            settings,
            launcher: connected_launcher,
            shutdown_handles: Mutex::new(Some(ShutdownHandles {
                _lock: lock,
                launch_task,
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
    /// Creates an engine in this process, on directories that no other engine uses, and takes over
    /// the waiting, running and finished executions of an earlier engine on them. It starts the
    /// launcher, or connects to it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn new(config: EngineConfig) -> Result<Self, StartError> {
        LockedDirs::lock(config)?.start_engine(0).await
    }
}

/// Opens the store, on a thread of its own: that may take long if the store is large or damaged.
async fn open_store(
    config: &EngineConfig,
    outcomes: mpsc::UnboundedSender<Vec<(u64, CommitOutcome)>>,
) -> Result<(Store, LoadedState), StartError> {
    let path = config.state_dir.join(store::FILE_NAME);
    let settings = StoreSettings {
        durability: config.durability,
        max_events: scheduler::MAX_KEPT_EVENTS,
    };
    let opened = tokio::task::spawn_blocking(move || {
        store::open(&path, settings, move |committed| {
            // Sending fails only while the engine is stopping.
            let _ = outcomes.send(committed);
        })
    });
    let opened = opened.await;
    // The store has logged its notices.
    let (store, loaded, _) = opened.map_err(|error| StartError::Recovery(error.into()))??;
    Ok((store, loaded))
}

/// Connects to the launcher or starts it. A launcher that is a service may come later: until then,
/// finished executions can be queried and pending ones wait.
async fn connect_to_launcher(
    launcher: &LauncherSettings,
) -> Result<Option<LauncherConnection>, LaunchError> {
    match LauncherConnection::open(launcher).await {
        Err(error) if matches!(launcher.source, LauncherSource::Socket(_)) => {
            error!(%error, "there is no launcher; commands wait");
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// Finds the living shims of an earlier engine and the files of those that ended.
async fn recover(
    launcher: &LauncherSettings,
    loaded: LoadedState,
    store: &Store,
) -> Result<(Adoption, RecoveredState), StartError> {
    let adoption = launch::adopt_shims(&launcher.runtime_dir).await;
    let adoption = adoption.map_err(StartError::Recovery)?;
    // After the shims: a shim that ends in the meantime has written its exit record by then.
    let records = launch::exit_records(&launcher.state_dir).map_err(StartError::Recovery)?;
    let shims = adoption.states();
    let unfinished: HashSet<ExecutionId> = loaded
        .unfinished
        .iter()
        .map(|unfinished| unfinished.submission.id)
        .collect();
    let mut finished = HashSet::new();
    let reported = shims
        .iter()
        .map(|shim| shim.id)
        .chain(records.reports.iter().map(|report| report.id));
    for id in reported.filter(|id| !unfinished.contains(id)) {
        if store.find(None, &id.into()).await?.is_some() {
            finished.insert(id);
        }
    }
    if !(shims.is_empty() && unfinished.is_empty()) {
        info!(
            shims = shims.len(),
            exit_records = records.reports.len(),
            unfinished = unfinished.len(),
            "taking over the executions of an earlier escherd"
        );
    }
    let recovered = RecoveredState {
        silent: adoption.silent(),
        claims: adoption.dead.clone(),
        has_unidentified_shim: adoption.has_unidentified_shim,
        loaded,
        shims,
        reports: records.reports,
        of_another_version: &records.of_another_version | &adoption.of_another_version,
        finished,
        ..RecoveredState::default()
    };
    Ok((adoption, recovered))
}

/// Waits for the commit of the recovered state, so that clients find it in the store, and then
/// records the boot of the host, since all consequences of a reboot are committed by then. If the
/// disk is full, both happen later.
async fn await_recovery_commit(scheduler: &SchedulerHandle, boot: Boot) {
    let scheduler = scheduler.clone();
    let recorded = tokio::spawn(async move {
        if scheduler.committed().await.is_ok()
            && let Err(error) = boot.record()
        {
            warn!(%error, "cannot record the boot of the host");
        }
    });
    if timeout(RECOVERY_COMMIT_TIMEOUT, recorded).await.is_err() {
        warn!("the recovered state cannot be committed yet");
    }
}
