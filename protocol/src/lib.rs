//! The protocol between escherd and its clients, and the types that escherd's library and the
//! client library share.
//!
//! A client connects to the daemon's Unix socket and sends a [`handshake::Hello`]; the daemon
//! answers with a [`HelloReply`](handshake::HelloReply). After that the client sends
//! [`ClientFrame`]s and the daemon [`ServerFrame`]s, with any number of requests in flight.
//! `docs/protocol.md` describes the whole protocol.
//!
//! The crate does no I/O but in [`socket_paths`], which looks for directories: [`codec`] turns messages
//! into bytes and back, [`frame`] (feature `frames`) splits a byte stream into messages, [`json`] (feature
//! `json`) shows the answers as JSON, and the other modules hold the types.
#![forbid(unsafe_code)]

pub mod blob;
pub mod codec;
pub mod diagnostic;
pub mod error;
pub mod event;
pub mod event_delivery;
pub mod execution;
#[cfg(feature = "frames")]
pub mod frame;
pub mod handshake;
pub mod id;
pub mod invisible;
#[cfg(feature = "json")]
pub mod json;
pub mod message;
pub mod metadata;
pub mod missing_measurements;
pub mod output;
pub mod parts;
pub mod process_limits;
pub mod resources;
pub mod result;
pub mod settings;
pub mod signal;
pub mod socket_paths;
pub mod time;
pub mod user;

pub use blob::{Blob, Text};
pub use diagnostic::{Diagnostic, Severity};
pub use error::{ApiError, ErrorCode};
pub use event::ExecutionEvent;
pub use execution::{
    CancelMode, Canceller, Command, ExecutionRecord, ExecutionRequest, Exit, KillMode, Leftovers,
    OnStdinLost, Outcome, OutputTotals, QueuePosition, RunAs, StartStage, Status, StdinLost,
    StdinMode, Timeout, Usage, WaitReason,
};
pub use id::{ClientId, ExecutionId, InstanceId, RequestId, Target};
pub use message::{ClientFrame, Item, Request, Response, ServerFrame};
pub use metadata::Metadata;
pub use output::{
    GapReason, OutputChunk, OutputGap, OutputItem, OutputRange, OutputStart, OutputStream,
    StreamSelection,
};
pub use parts::{Part, Parts, UnsupportedPart};
pub use process_limits::{ProcessLimits, Rlimit, RlimitResource, RlimitUnit};
pub use resources::{
    Controllers, CurrentUsage, ExecutionUsage, Measurements, ResourceLimits, Resources,
};
pub use result::{ExecutionResult, Omission};
pub use settings::{Reloaded, Setting, SettingValue};
pub use signal::{SentSignal, SentSignals, SignalAnswer, SignalRecipients, SignalSerial};
pub use time::Timestamp;
pub use user::User;
