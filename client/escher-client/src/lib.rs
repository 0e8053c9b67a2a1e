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
//! either kind with I/O and time enabled.
#![forbid(unsafe_code)]

mod client;
mod connection;
mod connector;
mod cursor;
mod error;
mod event_handler;
mod reconnect;
mod response;
mod result;
mod session;
mod socket_watch;
mod stdin;
mod stream;

pub use client::Client;
pub use connector::{
    Connector, DEFAULT_CONNECT_TIMEOUT, DEFAULT_RECONNECT_TIMEOUT, ReconnectEvent,
};
pub use error::{ConnectError, Error, ProtocolViolation};
pub use event_handler::EventSubscription;
pub use stdin::StdinWriter;
pub use stream::{EventStream, ExecutionStream, LogStream, ResponseStream};

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
    ApiError, Blob, Diagnostic, ErrorCode, ExecutionEvent, ExecutionId, ExecutionResult,
    Measurements, Metadata, Omission, OutputChunk, OutputRange, OutputStart, OutputStream,
    Reloaded, ResourceLimits, Resources, Setting, SettingValue, Severity, StreamSelection, Target,
    Text, Timestamp,
};
