//! What escher's programs say to each other.
//!
//! A client opens the daemon's Unix socket and sends a [`handshake::Hello`]; the daemon answers
//! with a [`HelloReply`](handshake::HelloReply). From then on the client sends
//! [`ClientFrame`]s and the daemon [`ServerFrame`]s, any
//! number of requests in flight at once. `docs/protocol.md` holds the whole of it for people.
//!
//! The crate does no I/O: [`codec`] turns messages into bytes and back, [`frame`] (feature `frames`)
//! cuts a byte stream into them, the rest are the types: those that travel, and those that escherd's library and the client's give alike.
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
pub mod message;
pub mod metadata;
pub mod output;
pub mod parts;
pub mod resources;
pub mod result;
pub mod settings;
pub mod time;

pub use blob::{Blob, Text};
pub use diagnostic::{Diagnostic, Severity};
pub use error::{ApiError, ErrorCode};
pub use event::ExecutionEvent;
pub use execution::{
    CancelMode, Canceller, Command, ExecutionRecord, ExecutionRequest, Exit, Leftovers, Outcome,
    OutputTotals, RunAs, StartStage, Status, StdinMode, Timeout, Usage, User,
};
pub use id::{ExecutionId, InstanceId, RequestId, Target};
pub use message::{ClientFrame, Item, Request, Response, ServerFrame};
pub use metadata::Metadata;
pub use output::{OutputChunk, OutputRange, OutputStart, OutputStream, StreamSelection};
pub use parts::{Part, Parts, UnsupportedPart};
pub use resources::{Controllers, Measurements, ResourceLimits, Resources};
pub use result::{ExecutionResult, Omission};
pub use settings::{Reloaded, Setting, SettingValue};
pub use time::Timestamp;
