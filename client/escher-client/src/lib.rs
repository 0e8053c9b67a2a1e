//! Client library of escherd: runs commands on a host and reads their output and results.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use escher_client::{Client, Command, ExecutionRequest};
//!
//! let client = Client::connect_by_default().await?;
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
//! A command runs independently of the client that submitted it. Any client of the same user can wait
//! for it, read its output, write its input or cancel it, before and after restarts of escherd.
//!
//! - [`Client`] has a method for each request. It describes how the client reconnects, and what
//!   dropping a future does.
//! - [`Connector`] sets timeouts and the client's name, and a [`SocketChoice`] which escherd it is that the
//!   client connects to.
//! - [`ResponseStream`] is the type of all streams: lists, output and events.
//! - [`StdinWriter`] writes the standard input of a command, which a [`StdinHold`] keeps for one client.
//! - [`EventSubscription`] keeps an event handler subscribed.
//! - [`ConnectError`] and [`Error`] are the errors.
//!
//! The types of requests and responses come from [`protocol`]; the common ones are re-exported here.
//!
//! The library needs a tokio runtime of either flavor with I/O and time enabled. It writes nothing to
//! standard output or a log, and never exits the process.
#![forbid(unsafe_code)]

mod client;
mod connection;
mod connector;
mod control;
mod cursor;
mod daemon;
mod error;
mod event_handler;
mod reconnect;
mod reconnecting_transport;
mod response;
mod result;
mod socket_choice;
mod socket_watch;
mod stdin;
mod stream;

pub use client::Client;
pub use connector::{
    Connector, DEFAULT_CONNECT_TIMEOUT, DEFAULT_RECONNECT_TIMEOUT, ReconnectEvent,
};
pub use error::{ConnectError, Error, ProtocolViolation};
pub use event_handler::EventSubscription;
pub use result::{ResultItem, ResultStream};
pub use socket_choice::{EscherdSocket, SocketChoice, SocketOrigin};
pub use stdin::{StdinHold, StdinWriter};
pub use stream::{EventStream, ExecutionStream, LogStream, ResponseStream, UsageStream};

pub use escher_protocol as protocol;
pub use escher_protocol::execution::{
    CancelMode, Command, ExecutionRecord, ExecutionRequest, KillMode, OnStdinLost, QueuePosition,
    RunAs, Status, StdinLost, StdinMode, Timeout, WaitReason,
};
pub use escher_protocol::handshake::Welcome;
pub use escher_protocol::message::{
    CancelAnswer, Condition, DaemonInfo, Event, EventFilter, EventKind, EventsRequest, EventsStart,
    ListFilter, Property, Quota, Removed, Selection, Submitted,
};
pub use escher_protocol::{
    ApiError, Blob, CurrentUsage, Diagnostic, ErrorCode, ExecutionEvent, ExecutionId,
    ExecutionResult, ExecutionUsage, GapReason, Measurements, Metadata, Omission, OutputChunk,
    OutputGap, OutputItem, OutputRange, OutputStart, OutputStream, Part, Parts, ProcessLimits,
    Reloaded, ResourceLimits, Resources, Rlimit, RlimitResource, RlimitUnit, SentSignal,
    SentSignals, Setting, SettingValue, Severity, SignalAnswer, StreamSelection, Target, Text,
    Timestamp,
};
