//! Answers as text for people.

mod end_reason;
mod fields;
mod info;
mod inspect;
mod messages;
mod wait_reason;

pub(crate) use end_reason::{end_reason, signal_name, summary};
pub(crate) use info::info;
pub(crate) use inspect::inspect;
pub(crate) use messages::{
    cancelled, event, failure, list_truncated, missing_output, paused, prunable, prune_question,
    pruned, reloaded,
};
pub(crate) use wait_reason::wait_reason;
