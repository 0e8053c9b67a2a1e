//! Answers as JSON: one object per line; every field is always present, `null` if it has no value.

mod daemon;
mod diagnostic;
mod event;
mod execution;
mod failure;
mod object;
mod output_chunk;
mod quota;
mod settings;
mod targets;

pub(crate) use daemon::{info, metrics};
pub(crate) use diagnostic::diagnostic;
pub(crate) use event::event;
pub(crate) use execution::ExecutionObject;
pub(crate) use failure::failure;
pub(crate) use object::line;
pub(crate) use output_chunk::{output_chunk, output_gap};
pub(crate) use quota::quota;
pub(crate) use settings::{config_check, reloaded, setting};
pub(crate) use targets::{cancelled, paused, pruned, removed, sent, signalled};
