//! The start of an engine, which takes over the executions of an earlier one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_protocol::{ExecutionId, ResourceLimits, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::locked_dirs::{LockedDirs, directory_error};
use super::log_capacity;
use super::shutdown::ShutdownHandles;
use super::start_error::StartError;
use super::{Core, ExecutionEngine};
use super::{cleanup, former_owners};
use crate::authz::{Authorizer, Caller, ServedUsers};
use crate::blocking::BlockingPool;
use crate::config::{EngineSettings, Percent, ReloadableSettings};
use crate::host::boot_id::BootIds;
use crate::host::fd_budget::{FdBudget, FdShares};
use crate::launch::{
    self, Adoption, LauncherConnection, LauncherConnectionError, LauncherSettings, LauncherSource,
    LeftProcesses,
};
use crate::output::OversizedOutput;
use crate::scheduler::{self, RecoveredState, Scheduler, SchedulerHandle, SchedulerSettings};
use crate::store::{self, CommitOutcome, LoadedState, LookupScope, Store, StoreSettings};

/// How many logs are read at the same time; others wait for their user's turn.
const MAX_LOG_THREADS: usize = 16;

/// How many diagnoses run at the same time.
const MAX_DOCTOR_THREADS: usize = 2;

/// How long the start waits for the commit of the recovered state. That takes milliseconds unless
/// the disk is full.
const RECOVERY_COMMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the scheduler's part of the settings: of those at the start and of those in force. Shares and reserves
/// apply where several users share the engine.
pub(super) fn scheduler_settings(
    at_start: &EngineSettings,
    in_force: &ReloadableSettings,
    budget: FdBudget,
    is_shared: bool,
) -> SchedulerSettings {
    SchedulerSettings {
        request: in_force.request,
        max_concurrent: budget.executions,
        root_slots: if is_shared { budget.root_executions } else { 0 },
        max_pending: in_force.max_pending_executions,
        max_pending_bytes: in_force.max_pending_bytes,
        queue_share: is_shared.then_some(in_force.queue_share),
        max_in_memory: in_force.max_in_memory_executions,
        max_launch_attempts: in_force.max_launch_attempts,
        log_dir: at_start.log_dir.clone(),
        log_limits: in_force.log_limits,
        log_share: if is_shared {
            in_force.log_share
        } else {
            Percent::ALL
        },
        output_limit: (in_force.output.oversized == OversizedOutput::Fail)
            .then_some(in_force.output.max_bytes),
        user_limits: if is_shared {
            in_force.user_limits
        } else {
            ResourceLimits::default()
        },
        max_left: if is_shared {
            in_force.max_left
        } else {
            u32::MAX
        },
        durability: at_start.durability,
    }
}

fn launcher_settings(settings: &EngineSettings) -> LauncherSettings {
    LauncherSettings {
        source: match &settings.launcher_socket {
            Some(socket) => LauncherSource::Socket(socket.clone()),
            None => LauncherSource::Program(settings.launcher.clone()),
        },
        log_dir: settings.log_dir.clone(),
        state_dir: settings.state_dir.clone(),
        runtime_dir: settings.runtime_dir.clone(),
        warm_shims: settings.warm_shims,
    }
}

impl ExecutionEngine {
    /// Creates an engine in this process, on directories that no other engine uses, and takes over
    /// the waiting, running and finished executions of an earlier engine on them. It starts the
    /// launcher, or connects to it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn new(settings: EngineSettings) -> Result<Self, StartError> {
        ExecutionEngine::start(LockedDirs::lock(settings)?, 0).await
    }

    /// Starts an engine on directories that are locked for it, in a process that serves at most
    /// `max_connections` connections.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) async fn start(
        directories: LockedDirs,
        max_connections: usize,
    ) -> Result<Self, StartError> {
        let LockedDirs { settings, locks } = directories;
        let reloadable = settings.reloadable;
        let fd_shares = FdShares::new(reloadable.max_concurrent_executions, max_connections);
        let boot_ids =
            BootIds::read(&settings.state_dir).map_err(directory_error(&settings.state_dir))?;
        let (commit_outcome_sender, commit_outcomes) = mpsc::unbounded_channel();
        let (store, loaded) = open_store(&settings, commit_outcome_sender).await?;
        let launcher_settings = launcher_settings(&settings);
        let left_processes = LeftProcesses::new(&launcher_settings.runtime_dir);
        let connection = connect_to_launcher(&launcher_settings).await?;
        let launcher_uid = connection.as_ref().map(LauncherConnection::uid);
        let authorizer = Authorizer::new(match launcher_uid {
            // If there is no launcher yet, it is a service that runs as root: `launch::run` accepts
            // no other.
            None | Some(0) => ServedUsers::All,
            Some(uid) => ServedUsers::Only(uid),
        });
        // Without connections there is no user but this process's own.
        let is_shared = max_connections > 0 && authorizer.served_users() == ServedUsers::All;
        let own_credentials = Caller::own_credentials().map_err(StartError::Identity)?;
        let caller = authorizer.authenticate(own_credentials).await?;
        let (adoption, mut recovered) = recover(&launcher_settings, loaded, &store).await?;
        recovered.rebooted = boot_ids.has_rebooted();
        recovered.on_boot = settings.on_boot;
        let mut scheduler = Scheduler::restore(
            scheduler_settings(&settings, &reloadable, fd_shares.budget(), is_shared),
            recovered,
            Timestamp::now(),
        );
        if let Some(connection) = &connection {
            scheduler.on_launcher_connected(connection.abilities());
        }
        scheduler.set_log_capacity(log_capacity::read(&settings.log_dir).await);
        let metrics = scheduler.metrics();
        let (scheduler, effects) = scheduler::start(scheduler, commit_outcomes, store.intake());
        let state = connection.as_ref().map(LauncherConnection::state);
        let (launcher_sender, launcher) = watch::channel(state);
        let launch_task = tokio::spawn(launch::run(
            launcher_settings,
            connection,
            adoption,
            scheduler.clone(),
            effects,
            launcher_sender,
        ));
        await_recovery_commit(&scheduler, boot_ids).await;

        let (reloadable, reloadable_changes) = watch::channel(reloadable);
        if authorizer.served_users() == ServedUsers::All {
            tokio::spawn(former_owners::run(
                reloadable_changes.clone(),
                authorizer.accounts(),
                scheduler.clone(),
                store.clone(),
            ));
        }
        tokio::spawn(cleanup::run(
            reloadable_changes,
            scheduler.clone(),
            store.clone(),
        ));
        tokio::spawn(log_capacity::run(
            settings.log_dir.clone(),
            reloadable.subscribe(),
            launcher.clone(),
            scheduler.clone(),
        ));
        let scope = Arc::new(authorizer.scope(&caller));
        let core = Core {
            settings_at_start: settings,
            scheduler,
            store,
            metrics,
            fd_shares,
            log_threads: BlockingPool::new(MAX_LOG_THREADS),
            doctor_threads: BlockingPool::new(MAX_DOCTOR_THREADS),
            authorizer,
            is_shared,
            settings_in_force: reloadable,
            launcher,
            left_processes,
            shutdown_handles: Mutex::new(Some(ShutdownHandles {
                _locks: locks,
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

/// Opens the store, on a thread of its own: that may take long if the store is large or damaged.
async fn open_store(
    settings: &EngineSettings,
    commit_outcomes: mpsc::UnboundedSender<Vec<(u64, CommitOutcome)>>,
) -> Result<(Store, LoadedState), StartError> {
    let path = settings.state_dir.join(store::FILE_NAME);
    let store_settings = StoreSettings {
        durability: settings.durability,
        min_free_bytes: settings.reloadable.store_min_free_bytes,
    };
    let opening = tokio::task::spawn_blocking(move || {
        store::open(&path, store_settings, move |outcomes| {
            // Sending fails only while the engine is stopping.
            let _ = commit_outcomes.send(outcomes);
        })
    });
    let opened = opening
        .await
        .map_err(|error| StartError::Recovery(error.into()))?;
    // The store has already logged the notices, which are the third value.
    let (store, loaded, _) = opened?;
    Ok((store, loaded))
}

/// Connects to the launcher or starts it. A launcher that is a service may come later: until then,
/// finished executions can be queried and pending ones wait.
async fn connect_to_launcher(
    settings: &LauncherSettings,
) -> Result<Option<LauncherConnection>, LauncherConnectionError> {
    match LauncherConnection::open(settings).await {
        Err(error) if matches!(settings.source, LauncherSource::Socket(_)) => {
            error!(%error, "there is no launcher; commands wait");
            Ok(None)
        }
        connected => connected.map(Some),
    }
}

/// Adopts the living shims of an earlier engine, and reads the exit records of the others.
async fn recover(
    settings: &LauncherSettings,
    loaded: LoadedState,
    store: &Store,
) -> Result<(Adoption, RecoveredState), StartError> {
    let adoption = launch::adopt_shims(&settings.runtime_dir).await;
    let adoption = adoption.map_err(StartError::Recovery)?;
    // After the adoption: a shim that ended too early for it has written its exit record by now.
    let exit_records =
        launch::read_exit_records(&settings.state_dir).map_err(StartError::Recovery)?;
    let shims = adoption.states();
    let unfinished: HashSet<ExecutionId> = loaded
        .unfinished
        .iter()
        .map(|unfinished| unfinished.submission.id)
        .collect();
    let mut finished = HashSet::new();
    let reported_ids = shims
        .iter()
        .map(|shim| shim.id)
        .chain(exit_records.reports.iter().map(|report| report.id));
    for id in reported_ids.filter(|id| !unfinished.contains(id)) {
        if store.find(LookupScope::ALL, &id.into()).await?.is_some() {
            finished.insert(id);
        }
    }
    if !(shims.is_empty() && unfinished.is_empty()) {
        info!(
            shims = shims.len(),
            exit_records = exit_records.reports.len(),
            unfinished = unfinished.len(),
            "taking over the executions of an earlier escherd"
        );
    }
    let recovered = RecoveredState {
        silent: adoption.silent(),
        dead_claims: adoption.dead_claims.clone(),
        has_unidentified_shim: adoption.has_unidentified_shim,
        loaded,
        shims,
        reports: exit_records.reports,
        for_later_escherd: &exit_records.for_later_escherd | &adoption.for_later_escherd,
        finished,
        ..RecoveredState::default()
    };
    Ok((adoption, recovered))
}

/// Waits for the commit of the recovered state, so that clients find it in the store. Then records
/// the boot of the host, because all consequences of a reboot are committed. If the disk is full,
/// returns after a timeout, and both happen later.
async fn await_recovery_commit(scheduler: &SchedulerHandle, boot_ids: BootIds) {
    let scheduler = scheduler.clone();
    let recording = tokio::spawn(async move {
        if scheduler.committed().await.is_ok()
            && let Err(error) = boot_ids.record()
        {
            warn!(%error, "cannot record the boot of the host");
        }
    });
    if timeout(RECOVERY_COMMIT_TIMEOUT, recording).await.is_err() {
        warn!("the recovered state cannot be committed yet");
    }
}
