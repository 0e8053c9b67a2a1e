//! Answers as JSON: one object per line; every field is always present, `null` if it has no value.
//!
//! escherctl prints these objects with `--json`, and escherd sends them over HTTP.

mod daemon;
mod diagnostic;
mod event;
mod execution;
mod object;
mod output_chunk;
mod output_end;
mod quota;
mod requests;
mod settings;
mod targets;

pub use daemon::{info, metrics};
pub use diagnostic::diagnostic;
pub use event::event;
pub use execution::ExecutionObject;
pub use object::{line, rfc3339};
pub use output_chunk::{output_chunk, output_gap};
pub use output_end::{error, output_end};
pub use quota::quota;
pub use requests::{Cancellation, SignalObject, Submission};
pub use settings::{config_check, reloaded, setting};
pub use targets::{cancelled, paused, pruned, removed, sent, signalled};
