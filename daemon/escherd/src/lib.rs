//! escherd: runs commands for people and programs on one host, each as the user who submits it.
//!
//! A request passes through these modules:
//!
//! 1. [`server`] accepts the connection, asks the kernel for the client's identity, and reads the
//!    frame.
//! 2. [`api`] turns the request into calls of what follows, and takes the answer from where it is:
//!    memory, store or log.
//! 3. [`authz`] decides whether the request is allowed. Its permit is a value, which the scheduler
//!    demands.
//! 4. [`scheduler`], the sole owner of all state, changes the [`execution`].
//! 5. [`launch`] carries out what the scheduler wants done, by way of the shims.
//! 6. [`store`] records changes, and answers for executions that have left memory.
//! 7. [`output`] reads what the command has written.
//!
//! [`cli`] parses the command line, [`config`] loads the settings, and [`reload`] changes them.
//! [`host`] is the interface to the host, [`journal`] and [`metrics`] report what happens, and
//! [`doctor`] diagnoses problems. [`daemon`] puts everything together; [`systemd_tasks`] keep
//! systemd informed, and [`start_failure`] says why escherd does not start. [`turns`] share what users compete for, [`blocking`] the threads.
#![forbid(unsafe_code)]

pub mod api;
pub mod authz;
mod blocking;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod execution;
pub mod host;
pub mod journal;
pub mod launch;
mod message_ids;
mod metrics;
pub mod output;
pub mod reload;
pub mod scheduler;
pub mod server;
pub mod start_failure;
pub mod store;
mod systemd_tasks;
mod turns;

pub use api::{
    EventHandlerGuard, Events, ExecutionEngine, Executions, OutputItems, RunningUsages, StartError,
    StdinHold,
};
pub use config::{ConfigError, EngineSettings, OnStop, Percent, Profile, ReloadableSettings};
pub use output::{OutputRules, OversizedOutput};
