//! Asks escherd to run commands, and reads what they say.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use escher_client::{Client, Command, ExecutionRequest};
//!
//! let client = Client::connect("/run/escher/escherd.sock").await?;
//! let request = ExecutionRequest {
//!     command: Command::Exec { argv: vec!["uname".into(), "-a".into()] },
//!     ..ExecutionRequest::default()
//! };
//! let submitted = client.execute(request).await?;
//! let result = client.get_result(submitted.id).await?;
//! assert!(result.stdout.starts_with(b"Linux"));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is one connection at a time, and rides through restarts of escherd. It is cheap to clone,
//! and any number of tasks may ask at once: answers come back in the order in which they are ready, and
//! a stream that is read slowly holds up nothing else. Every future may be dropped at any time; escherd is then told that nobody waits any more (a
//! command that was accepted runs on).
//!
//! The library prints nothing, logs nothing and never ends the process. It needs a tokio runtime of
//! either kind with I/O and time enabled. With the feature `cli` there is the module of that name, which is no part of
//! the library but the program escherctl, and does all of that.
#![forbid(unsafe_code)]

// escherctl is written against the library's face, by the name that any other program has for it.
#[cfg(feature = "cli")]
extern crate self as escher_client;

mod arrival;
#[cfg(feature = "cli")]
pub mod cli;
mod client;
mod connection;
mod connector;
mod cursor;
mod dial;
mod error;
mod handler;
mod items;
mod reconnect;
mod result;
#[cfg(test)]
mod sample;
mod session;
mod stdin;

pub use client::Client;
pub use connector::{Connector, DEFAULT_DEADLINE, DEFAULT_RECONNECT, Outage};
pub use error::{ConnectError, Error, Violation};
pub use handler::EventHandler;
pub use items::{Events, Executions, Items, Output};
pub use stdin::StdinWriter;

pub use escher_protocol as protocol;
pub use escher_protocol::execution::{
    CancelMode, Command, ExecutionRecord, ExecutionRequest, RunAs, Status, StdinMode, Timeout,
};
pub use escher_protocol::handshake::Welcome;
pub use escher_protocol::message::{
    CancelOutcome, DaemonInfo, Event, EventKind, EventsRequest, ListFilter, Removed, Selection,
    Submitted,
};
pub use escher_protocol::{
    ApiError, Blob, ErrorCode, ExecutionEvent, ExecutionId, ExecutionResult, Measurements,
    Metadata, Omission, OutputChunk, OutputRange, OutputStart, OutputStream, Reloaded,
    ResourceLimits, Resources, Setting, SettingValue, StreamSelection, Target, Text, Timestamp,
};
