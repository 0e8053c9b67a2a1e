//! escherd: runs commands for people and programs on one host, each as the user who submits it.
//!
//! A request passes through these modules:
//!
//! 1. [`server`] accepts the connection, asks the kernel for the client's identity, and reads the
//!    frame.
//! 2. [`api`] turns the request into calls of what follows, and finds out who has the answer:
//!    memory, store or log.
//! 3. [`authz`] decides. Its permit is a value, which the scheduler demands.
//! 4. [`scheduler`], the sole owner of all state, changes the [`execution`].
//! 5. [`launch`] carries out what the scheduler wants done, by way of the shims.
//! 6. [`store`] records changes, and answers for executions that have left memory.
//! 7. [`output`] reads what the command has written.
//!
//! [`config`] and [`cli`] make the settings and [`reload`] changes them. [`host`] is the interface
//! to the host, [`journal`] and [`metrics`] report what happens, and [`doctor`] examines whether
//! all is well. [`service`] puts everything together; [`systemd_tasks`] keep systemd informed.
#![forbid(unsafe_code)]

pub mod api;
pub mod authz;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod execution;
pub mod host;
pub mod journal;
pub mod launch;
mod metrics;
pub mod output;
pub mod reload;
pub mod scheduler;
pub mod server;
pub mod service;
pub mod store;
mod systemd_tasks;

pub use api::{EventHandlerGuard, Events, ExecutionEngine, Executions, Output, StartError};
pub use config::{ConfigError, EngineConfig, ExecutionSettings, OnStop, Profile};
pub use output::{OutputRules, OversizedOutput};
