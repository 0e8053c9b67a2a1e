//! escherd: runs commands for people and programs on one host, each as the user who asked.
//!
//! A request passes through the rooms in this order:
//!
//! 1. [`server`] takes the connection, learns from the kernel who is at the other end, reads the frame;
//! 2. [`authz`] decides, and its permit is a value;
//! 3. [`api`] finds out who has the answer: memory, store or log;
//! 4. [`engine`], sole owner of all state, demands the permit and moves the [`execution`] on;
//! 5. [`launch`] carries out what the engine wants done, by way of the shims;
//! 6. [`store`] writes down what has changed, and remembers what has left memory;
//! 7. [`output`] reads what the command has written, for whoever asks.
//!
//! [`config`] and [`cli`] make the settings, [`reload`] changes them; [`boot`], [`descriptors`], [`systemd`],
//! [`telemetry`], [`journal`] and [`metrics`] are the surroundings, [`doctor`] looks at whether all is well, and
//! [`service`] puts it all together.
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

pub use api::{EventHandlerGuard, Events, ExecutionEngine, Executions, Output, StartError};
pub use cli::OnStop;
pub use config::{ConfigError, EngineConfig, ExecutionSettings, Profile};
pub use output::{OutputRules, OversizedOutput};
