//! The embedding interface: every operation of escher, in process.
//!
//! [`ExecutionEngine`] combines the scheduler, the store, the [shims](crate::launch) and the
//! [logs](crate::output), and answers from whichever has the answer. It is used by programs that
//! embed this crate, and by escherd's [server](crate::server) on behalf of its clients. `startup`
//! and `shutdown` begin and end its life; the other modules are its operations.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use escher_protocol::{Command, ExecutionRequest};
//! use escherd::{EngineSettings, ExecutionEngine};
//!
//! let engine = ExecutionEngine::new(EngineSettings::default()).await?;
//! let request = ExecutionRequest {
//!     command: Command::Shell { text: "echo hi; exit 3".into(), shell: None },
//!     ..ExecutionRequest::default()
//! };
//! let submitted = engine.execute(request).await?;
//! let result = engine.get_result(submitted.id).await?;
//! assert_eq!((result.exit_code(), &result.stdout[..]), (Some(3), &b"hi\n"[..]));
//! engine.shutdown(escherd::OnStop::Leave).await;
//! # Ok(())
//! # }
//! ```

mod cleanup;
mod control_log;
mod doctor;
mod event_handler;
mod events;
mod former_owners;
mod left;
mod list;
mod locked_dirs;
mod log_capacity;
mod merge;
mod metrics;
mod output;
mod pause;
mod quota;
mod remove;
mod result;
mod selection;
mod shutdown;
mod signal;
mod start_error;
mod startup;
mod stdin;
mod target;
mod usage;

pub(crate) use crate::scheduler::SignalRequest;
pub use event_handler::EventHandlerGuard;
pub use events::Events;
pub use list::Executions;
pub(crate) use locked_dirs::LockedDirs;
pub use output::OutputItems;
pub use result::{ResultPart, ResultReader};
pub(crate) use shutdown::SHUTDOWN_STEP_TIMEOUT;
pub use start_error::StartError;
pub use stdin::StdinHold;
pub use usage::RunningUsages;

use std::sync::{Arc, Mutex};

use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::message::{CancelAnswer, Submitted};
use escher_protocol::{
    ApiError, CancelMode, ErrorCode, ExecutionRecord, ExecutionRequest, Target, Timestamp,
};
use nix::sys::signal::Signal;
use tokio::sync::{oneshot, watch};
use tracing::{debug, warn};

use crate::authz::{AdminPermit, Authorizer, Caller, Scope, ServedUsers};
use crate::blocking::BlockingPool;
use crate::config::{ConfigError, EngineSettings, ReloadableSettings};
use crate::execution::kept_command;
use crate::host::fd_budget::{FdBudget, FdShares};
use crate::launch::{LauncherState, LeftProcesses};
use crate::scheduler::{self, Counts, Scheduler, SchedulerHandle, check_signal};
use crate::store::Store;
use shutdown::ShutdownHandles;
use startup::scheduler_settings;
use target::ActionResult;

/// Runs commands and answers questions about them. Cheap to clone; clones share everything.
///
/// An engine acts for one user, with that user's authority: the user of its process. Commands run
/// as that user, and only that user's executions are visible; root sees all.
///
/// Where a method takes a [`Target`], pass an id, or a number, a name or a part of an id as text.
///
/// An engine needs a tokio runtime with I/O and time enabled, and works until
/// [`ExecutionEngine::shutdown`] or the runtime's end. Commands do not depend on it: the next
/// engine on the same directories takes over those that still run.
#[derive(Debug, Clone)]
pub struct ExecutionEngine {
    core: Arc<Core>,
    caller: Arc<Caller>,
    scope: Arc<Scope>,
}

/// The state that all users of an engine share.
#[derive(Debug)]
struct Core {
    settings_at_start: EngineSettings,
    scheduler: SchedulerHandle,
    store: Store,
    metrics: scheduler::SchedulerMetrics,
    fd_shares: FdShares,
    /// The threads that read logs.
    log_threads: BlockingPool,
    /// The threads that diagnose.
    doctor_threads: BlockingPool,
    authorizer: Authorizer,
    /// Whether several users share the engine.
    is_shared: bool,
    settings_in_force: watch::Sender<ReloadableSettings>,
    /// The connected launcher, if there is one.
    launcher: watch::Receiver<Option<LauncherState>>,
    left_processes: LeftProcesses,
    /// Taken by the shutdown.
    shutdown_handles: Mutex<Option<ShutdownHandles>>,
}

/// Returns all problems of a configuration as one error, whose message is a single line.
pub(crate) fn invalid_configuration(error: &ConfigError) -> ApiError {
    let problems: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    let message = format!("invalid configuration: {}", problems.join("; "));
    ApiError::new(ErrorCode::INVALID_CONFIGURATION, message)
}

/// Returns the error of an answer that does not come, because the scheduler has stopped.
fn scheduler_stopped<E>(_: E) -> ApiError {
    scheduler::Stopped.into()
}

impl ExecutionEngine {
    /// Returns the same engine for another user: with that user's authority and executions.
    pub(crate) fn on_behalf_of(&self, caller: Caller) -> Self {
        ExecutionEngine {
            core: Arc::clone(&self.core),
            scope: Arc::new(self.core.authorizer.scope(&caller)),
            caller: Arc::new(caller),
        }
    }

    /// Returns the same engine with the executions of all users.
    pub(crate) fn unrestricted(&self, permit: &AdminPermit) -> Self {
        ExecutionEngine {
            scope: Arc::new(
                self.core
                    .authorizer
                    .unrestricted_scope(permit, &self.caller),
            ),
            ..self.clone()
        }
    }

    /// Authenticates a peer. Returns the same engine for its user.
    ///
    /// # Errors
    /// `permission-denied` if the peer may not use this escherd, and failures of the user database.
    pub(crate) async fn authenticate(
        &self,
        credentials: PeerCredentials,
    ) -> Result<Self, ApiError> {
        let caller = self.core.authorizer.authenticate(credentials).await?;
        Ok(self.on_behalf_of(caller))
    }

    /// Returns the uid of this engine's user.
    pub(crate) fn uid(&self) -> u32 {
        self.caller.user().uid
    }

    /// Authorizes operations that affect all users.
    ///
    /// # Errors
    /// `permission-denied` if the caller is neither root nor the engine's own user.
    pub(crate) fn authorize_admin(&self) -> Result<AdminPermit, ApiError> {
        self.core.authorizer.authorize_admin(&self.caller)
    }

    /// Submits a command. Returns once the submission is committed to disk.
    ///
    /// # Errors
    /// `invalid-request`, `arguments-too-long`, `timeout-too-long`, `unsupported`, `key-conflict`,
    /// `limit-unenforceable`, `over-quota`, `queue-full`, `permission-denied`, `unknown-user`, `store-unavailable`, `shutting-down`.
    pub async fn execute(&self, request: ExecutionRequest) -> Result<Submitted, ApiError> {
        let result = self.submit(request).await;
        if let Err(error) = &result {
            self.core.metrics.count_refused(error);
        }
        result
    }

    async fn submit(&self, request: ExecutionRequest) -> Result<Submitted, ApiError> {
        let permit = self
            .core
            .authorizer
            .authorize_submit(&self.caller, &request.run_as)
            .await?;
        debug!(user = %self.caller.user(), "authorized to submit");
        let request = Box::new(request);
        let submit = move |scheduler: &mut Scheduler, _: &Scope| {
            scheduler.submit(permit, request, Timestamp::now())
        };
        let receiver = self.call(submit).await??;
        receiver.await.map_err(scheduler_stopped)?
    }

    /// Returns what is known about an execution now.
    ///
    /// # Errors
    /// `not-found` and `ambiguous`; `internal` if the store cannot be read; `shutting-down`.
    pub async fn get_status(&self, target: impl Into<Target>) -> Result<ExecutionRecord, ApiError> {
        let status = |scheduler: &mut Scheduler, number| scheduler.status(number);
        match self.act_on(target.into(), status).await? {
            ActionResult::Done(receiver) => self.receive_record(receiver).await,
            ActionResult::OnlyInStore(record) => Ok(*record),
        }
    }

    /// Waits until an execution is finished and returns its record.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]. A failed command is not an error.
    pub async fn wait_for_completion(
        &self,
        target: impl Into<Target>,
    ) -> Result<ExecutionRecord, ApiError> {
        let wait = |scheduler: &mut Scheduler, number| scheduler.wait(number);
        match self.act_on(target.into(), wait).await? {
            ActionResult::Done(receiver) => self.receive_record(receiver).await,
            ActionResult::OnlyInStore(record) => Ok(*record),
        }
    }

    /// Receives a record from the scheduler, and completes its command if the store alone has all of it. What became
    /// of an execution is worth more than its command, which stays cut if it cannot be read.
    async fn receive_record(
        &self,
        receiver: oneshot::Receiver<ExecutionRecord>,
    ) -> Result<ExecutionRecord, ApiError> {
        let mut record = receiver.await.map_err(scheduler_stopped)?;
        if record.command_cut {
            let (submitter, store) = (self.scope.submitter().cloned(), &self.core.store);
            match store.command(submitter, record.number, record.id).await {
                // Its end may not be on the disk yet, of which a record keeps less.
                Ok(Some((command, is_cut))) if record.status.is_finished() => {
                    let (kept, is_cut_now) = kept_command(&command);
                    record.command = kept;
                    record.command_cut = is_cut || is_cut_now;
                }
                Ok(Some((command, is_cut))) => {
                    record.command = command;
                    record.command_cut = is_cut;
                }
                // It was removed meanwhile.
                Ok(None) => {}
                Err(error) => {
                    warn!(execution = %record.id, %error, "a command is shown cut");
                }
            }
        }
        Ok(record)
    }

    /// Cancels an execution: withdraws it if it is pending, else begins the kill ladder. Returns
    /// without waiting for its end.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `store-unavailable`; `invalid-request` for a number that is not a
    /// signal.
    pub async fn cancel(
        &self,
        target: impl Into<Target>,
        mode: CancelMode,
    ) -> Result<CancelAnswer, ApiError> {
        let mode = match mode {
            CancelMode::Signal(signal) if signal == Signal::SIGKILL as i32 => CancelMode::Kill,
            CancelMode::Signal(signal) => {
                check_signal(signal)?;
                mode
            }
            CancelMode::Graceful | CancelMode::Kill => mode,
        };
        let scope = Arc::clone(&self.scope);
        let cancel = move |scheduler: &mut Scheduler, number| {
            scheduler.cancel(&scope, number, mode, Timestamp::now())
        };
        match self.act_on(target.into(), cancel).await? {
            ActionResult::Done(receiver) => receiver.await.map_err(scheduler_stopped)?,
            ActionResult::OnlyInStore(record) => Ok(CancelAnswer::AlreadyFinished(record.status)),
        }
    }

    /// Returns the number of running executions of all users.
    ///
    /// # Errors
    /// `shutting-down`.
    pub async fn running_count(&self) -> Result<u64, ApiError> {
        Ok(self.counts().await?.running as u64)
    }

    /// Returns the number of waiting, running and finished executions of all users.
    ///
    /// # Errors
    /// `shutting-down`.
    pub async fn total_count(&self) -> Result<u64, ApiError> {
        let counts = self.counts().await?;
        Ok((counts.pending + counts.running) as u64 + self.finished_count().await)
    }

    /// Returns the numbers of waiting and running executions of all users.
    pub(crate) async fn counts(&self) -> Result<Counts, ApiError> {
        self.call(|scheduler, _| scheduler.counts()).await
    }

    /// Returns the number of finished executions of all users.
    pub(crate) async fn finished_count(&self) -> u64 {
        self.core.store.finished_count().await
    }

    /// Returns the users for whom commands can be started.
    pub(crate) fn served_users(&self) -> ServedUsers {
        self.core.authorizer.served_users()
    }

    /// Returns how many executions, connections and open logs the limit on open files allows.
    pub(crate) fn fd_budget(&self) -> FdBudget {
        self.core.fd_shares.budget()
    }

    /// Returns the launcher's process id; `None` while no launcher is connected.
    pub(crate) fn launcher_pid(&self) -> Option<u32> {
        let launcher = self.core.launcher.borrow();
        launcher.as_ref().map(|launcher| launcher.pid)
    }

    /// Returns a watch of the launcher that is connected.
    pub(crate) fn watch_launcher(&self) -> watch::Receiver<Option<LauncherState>> {
        self.core.launcher.clone()
    }

    /// Returns the settings in force.
    #[must_use]
    pub fn settings(&self) -> ReloadableSettings {
        *self.core.settings_in_force.borrow()
    }

    /// Applies new settings. Running commands keep the settings that they were started with.
    ///
    /// # Errors
    /// `invalid-configuration` for invalid values; nothing is changed then. `shutting-down`.
    pub async fn configure(&self, settings: ReloadableSettings) -> Result<(), ApiError> {
        settings
            .validate()
            .map_err(|error| invalid_configuration(&error))?;
        self.apply_settings(settings, None).await
    }

    /// Applies validated settings, in a process that serves at most `max_connections` connections
    /// from now on; `None`: as many as before.
    pub(crate) async fn apply_settings(
        &self,
        settings: ReloadableSettings,
        max_connections: Option<usize>,
    ) -> Result<(), ApiError> {
        let max_executions = settings.max_concurrent_executions;
        let budget = self.core.fd_shares.change(max_executions, max_connections);
        self.core.settings_in_force.send_replace(settings);
        let reserve = settings.store_min_free_bytes;
        self.core.store.set_min_free_bytes(reserve);
        let core = &self.core;
        let settings =
            scheduler_settings(&core.settings_at_start, &settings, budget, core.is_shared);
        self.call(move |scheduler, _| scheduler.configure(settings))
            .await
    }

    /// Has the scheduler do `work` within the caller's scope.
    ///
    /// # Errors
    /// `shutting-down` if the scheduler has stopped.
    async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scheduler, &Scope) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        let scope = Arc::clone(&self.scope);
        let work = move |scheduler: &mut Scheduler| work(scheduler, &scope);
        Ok(self.core.scheduler.call_for(self.uid(), work).await?)
    }
}
