//! The engine as a whole: everything that can be asked of escher, in process.
//!
//! [`ExecutionEngine`] puts the [state](crate::scheduler), the [store](crate::store), the
//! [shims](crate::launch) and the [logs](crate::output) together, and answers from whichever of them has the
//! answer. It has two kinds of users: programs that embed this crate, and escherd's own
//! [server](crate::server), which asks it on behalf of its clients. `start` makes one; the other modules are
//! what can be asked.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use escher_protocol::{Command, ExecutionRequest};
//! use escherd::{EngineConfig, ExecutionEngine};
//!
//! let engine = ExecutionEngine::new(EngineConfig::default()).await?;
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
mod doctor;
mod event_handler;
mod events;
mod list;
mod locate;
mod metrics;
mod output;
mod pause;
mod remove;
mod result;
mod shutdown;
mod startup;

pub use cleanup::REMOVAL_BATCH;
pub use event_handler::EventHandler;
pub use events::Events;
pub use list::Executions;
pub use output::Output;
pub use result::{ResultPart, ResultReader};
pub(crate) use shutdown::FAREWELL;
pub(crate) use startup::Ground;
pub use startup::StartError;

use std::sync::{Arc, Mutex};

use escher_launcher::os::peer_credentials::PeerCredentials;
use escher_protocol::message::{CancelOutcome, Submitted};
use escher_protocol::{
    ApiError, CancelMode, ErrorCode, ExecutionRecord, ExecutionRequest, Target, Timestamp,
};
use tokio::sync::watch;

use crate::authz::{AdminPermit, Authorizer, Caller, Scope, ServedUsers};
use crate::config::{ConfigError, EngineConfig, ExecutionSettings};
use crate::execution::{StdinReply, Write};
use crate::host::fd_budget::{FdBudget, FdShares};
use crate::launch::LauncherState;
use crate::scheduler::{self, Counts, Scheduler, SchedulerHandle};
use crate::store::Store;
use locate::Place;
use shutdown::Hold;
use startup::engine_settings;

/// See the module. Cheap to clone; clones share everything.
///
/// It acts for one user: the one whose process it is in, with that user's authority. A command is the
/// user's own, and only the user's executions are there; for root they all are.
///
/// Where a method takes a [`Target`], an id, a number as text, a name or a part of an id will do.
///
/// It needs a tokio runtime with I/O and time enabled, and goes on until [`ExecutionEngine::shutdown`] or the
/// runtime's end. Commands do not depend on it: what still runs then is taken over by the next engine on
/// the same directories.
#[derive(Debug, Clone)]
pub struct ExecutionEngine {
    core: Arc<Core>,
    caller: Arc<Caller>,
    scope: Arc<Scope>,
}

/// What all users of one engine share.
#[derive(Debug)]
struct Core {
    /// As it was at the start.
    config: EngineConfig,
    engine: SchedulerHandle,
    store: Store,
    /// What the state counts.
    metrics: scheduler::SchedulerMetrics,
    /// How the open files are divided.
    shares: FdShares,
    authorizer: Authorizer,
    /// What is set now.
    settings: watch::Sender<ExecutionSettings>,
    /// The launcher that is connected.
    launcher: watch::Receiver<Option<LauncherState>>,
    /// What is given back at the end.
    hold: Mutex<Option<Hold>>,
}

/// All that is wrong with a configuration, as an error of one line.
pub(crate) fn invalid_configuration(error: &ConfigError) -> ApiError {
    let problems: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    let message = format!("invalid configuration: {}", problems.join("; "));
    ApiError::new(ErrorCode::INVALID_CONFIGURATION, message)
}

/// The engine has gone before it has answered.
fn stopping<E>(_: E) -> ApiError {
    scheduler::Stopped.into()
}

impl ExecutionEngine {
    /// The same engine for somebody else: with that user's authority, over that user's executions.
    pub(crate) fn on_behalf_of(&self, caller: Caller) -> Self {
        ExecutionEngine {
            core: Arc::clone(&self.core),
            scope: Arc::new(self.core.authorizer.scope(&caller)),
            caller: Arc::new(caller),
        }
    }

    /// The same engine over everybody's executions.
    pub(crate) fn over_all(&self, permit: &AdminPermit) -> Self {
        ExecutionEngine {
            scope: Arc::new(
                self.core
                    .authorizer
                    .unrestricted_scope(permit, &self.caller),
            ),
            ..self.clone()
        }
    }

    /// Lets a peer in.
    ///
    /// # Errors
    /// When it may not use this escherd at all.
    pub(crate) async fn admit(&self, credentials: PeerCredentials) -> Result<Self, ApiError> {
        let caller = self.core.authorizer.authenticate(credentials).await?;
        Ok(self.on_behalf_of(caller))
    }

    /// Leave to do what concerns everybody.
    ///
    /// # Errors
    /// `permission-denied`.
    pub(crate) fn administer(&self) -> Result<AdminPermit, ApiError> {
        self.core.authorizer.authorize_admin(&self.caller)
    }

    /// Has a command run. Returns once it is on disk that it shall.
    ///
    /// # Errors
    /// Why not: an invalid request, a conflict of keys, a full queue, no leave, a store that cannot be written.
    pub async fn execute(&self, request: ExecutionRequest) -> Result<Submitted, ApiError> {
        let answer = self.submit(request).await;
        if let Err(error) = &answer {
            self.core.metrics.count_refused(error);
        }
        answer
    }

    async fn submit(&self, request: ExecutionRequest) -> Result<Submitted, ApiError> {
        let permit = self
            .core
            .authorizer
            .authorize_submit(&self.caller, &request.run_as);
        let permit = permit.await?;
        let request = Box::new(request);
        let submit = move |engine: &mut Scheduler, _: &Scope| {
            engine.submit(permit, request, Timestamp::now())
        };
        let answer = self.ask(submit).await??;
        answer.await.map_err(stopping)?
    }

    /// What is known about an execution now.
    ///
    /// # Errors
    /// Above all `not-found` and `ambiguous`.
    pub async fn get_status(&self, target: impl Into<Target>) -> Result<ExecutionRecord, ApiError> {
        let status = |engine: &mut Scheduler, number| engine.status(number);
        match self.at(target.into(), status).await? {
            Place::Scheduler(record) => record.await.map_err(stopping),
            Place::Store(record) => Ok(*record),
        }
    }

    /// The record of an execution once it is finished. Wakes by its end, at once.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]. That the command failed is no error.
    pub async fn wait_for_completion(
        &self,
        target: impl Into<Target>,
    ) -> Result<ExecutionRecord, ApiError> {
        let wait = |engine: &mut Scheduler, number| engine.wait(number);
        match self.at(target.into(), wait).await? {
            Place::Scheduler(record) => record.await.map_err(stopping),
            Place::Store(record) => Ok(*record),
        }
    }

    /// Ends an execution. Returns as soon as that has begun, or why it need not.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`].
    pub async fn cancel(
        &self,
        target: impl Into<Target>,
        mode: CancelMode,
    ) -> Result<CancelOutcome, ApiError> {
        let scope = Arc::clone(&self.scope);
        let cancel = move |engine: &mut Scheduler, number| {
            engine.cancel(&scope, number, mode, Timestamp::now())
        };
        match self.at(target.into(), cancel).await? {
            Place::Scheduler(outcome) => outcome.await.map_err(stopping)?,
            Place::Store(record) => Ok(CancelOutcome::AlreadyFinished(record.status)),
        }
    }

    /// Sends a signal (by its number, signal(7)) to an execution's main process.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`], `not-running`, and `invalid-request` for a number that is no signal.
    pub async fn signal(&self, target: impl Into<Target>, signal: i32) -> Result<(), ApiError> {
        let send = move |engine: &mut Scheduler, number| engine.signal(number, signal);
        match self.at(target.into(), send).await? {
            Place::Scheduler(sent) => sent,
            Place::Store(record) => {
                scheduler::check_signal(signal)?;
                Err(scheduler::not_running(record.number, record.status))
            }
        }
    }

    /// Writes to a command's standard input; returns once its shim has the bytes, with how many it has of the
    /// input altogether.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `stdin-closed` when the command takes no more, `stdin-offset` when
    /// the offset leaves a gap.
    pub async fn write_stdin(&self, target: impl Into<Target>, write: Write) -> StdinReply {
        let most = escher_protocol::message::MAX_STDIN_BYTES;
        if write.data.len() > most {
            let message = format!(
                "{} bytes of input at once are over {most}",
                write.data.len()
            );
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        let write = move |engine: &mut Scheduler, number| engine.write_stdin(number, write);
        match self.at(target.into(), write).await? {
            Place::Scheduler(reply) => reply.await.map_err(stopping)?,
            Place::Store(record) => {
                let message = format!("execution {} is {}", record.number, record.status);
                Err(ApiError::new(ErrorCode::STDIN_CLOSED, message))
            }
        }
    }

    /// How many executions run, whoever has submitted them.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn running_count(&self) -> Result<u64, ApiError> {
        Ok(self.counts().await?.running as u64)
    }

    /// How many executions there are: waiting, running and finished, whoever has submitted them.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn total_count(&self) -> Result<u64, ApiError> {
        let counts = self.counts().await?;
        Ok((counts.pending + counts.running) as u64 + self.finished_count())
    }

    /// How many executions wait and run, and how many may run.
    pub(crate) async fn counts(&self) -> Result<Counts, ApiError> {
        self.ask(|engine, _| engine.counts()).await
    }

    /// How many finished executions there are.
    pub(crate) fn finished_count(&self) -> u64 {
        self.core.store.finished_count()
    }

    /// For whom commands can be started.
    pub(crate) fn served_users(&self) -> ServedUsers {
        self.core.authorizer.served_users()
    }

    /// What the open files are enough for.
    pub(crate) fn budget(&self) -> FdBudget {
        self.core.shares.budget()
    }

    /// The launcher's process id; `None` while there is none.
    pub(crate) fn launcher_pid(&self) -> Option<u32> {
        let launcher = self.core.launcher.borrow();
        launcher.as_ref().map(|launcher| launcher.pid)
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> ExecutionSettings {
        *self.core.settings.borrow()
    }

    /// Puts other settings in force. What runs already keeps what it was started with; everything else follows
    /// them from now on.
    ///
    /// # Errors
    /// `invalid-configuration` for values that make no sense, and nothing has changed; when the engine has stopped.
    pub async fn configure(&self, settings: ExecutionSettings) -> Result<(), ApiError> {
        settings
            .validate()
            .map_err(|error| invalid_configuration(&error))?;
        self.configure_beside(settings, None).await
    }

    /// The same in a process that serves so many connections from now on; `None`: as many as before.
    pub(crate) async fn configure_beside(
        &self,
        settings: ExecutionSettings,
        connections: Option<usize>,
    ) -> Result<(), ApiError> {
        let wanted = settings.max_concurrent_executions;
        let budget = self.core.shares.change(wanted, connections);
        self.core.settings.send_replace(settings);
        let settings = engine_settings(&self.core.config, &settings, budget);
        self.ask(move |engine, _| engine.configure(settings)).await
    }

    /// Has the engine do something within the caller's scope.
    async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scheduler, &Scope) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        let scope = Arc::clone(&self.scope);
        let work = move |engine: &mut Scheduler| work(engine, &scope);
        Ok(self.core.engine.call(work).await?)
    }
}
