//! The outcome of verbs that act on executions. `target` is the reference from the command line.

use serde::Serialize;

use super::object::line;
use crate::message::{CancelAnswer, Removed};

/// Returns the object for a cancel request.
pub fn cancelled(target: &str, answer: CancelAnswer) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        outcome: &'static str,
        status: Option<&'static str>,
    }
    let (outcome, status) = match answer {
        CancelAnswer::Withdrawn => ("withdrawn", None),
        CancelAnswer::Ending => ("ending", None),
        CancelAnswer::AlreadyEnding => ("already-ending", None),
        CancelAnswer::AlreadyFinished(status) => ("already-finished", Some(status.name())),
    };
    line(&Line {
        target,
        outcome,
        status,
    })
}

/// Returns the object for an execution that was paused or resumed.
pub fn paused(target: &str, is_paused: bool) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        paused: bool,
    }
    line(&Line {
        target,
        paused: is_paused,
    })
}

/// Returns the object for an execution that a signal was sent to.
pub fn signalled(target: &str, signal: i32) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        signal: i32,
    }
    line(&Line { target, signal })
}

/// Returns the object for an execution whose input has this length now.
pub fn sent(target: &str, stdin_bytes: u64) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        stdin_bytes: u64,
    }
    line(&Line {
        target,
        stdin_bytes,
    })
}

/// Returns the object for an execution that was removed.
pub fn removed(target: &str, removed: Removed) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        executions: u64,
        log_bytes: u64,
    }
    line(&Line {
        target,
        executions: removed.executions,
        log_bytes: removed.log_bytes,
    })
}

/// Returns the object for all executions that a prune removed, or would remove.
pub fn pruned(removed: Removed) -> String {
    #[derive(Serialize)]
    struct Line {
        executions: u64,
        log_bytes: u64,
    }
    line(&Line {
        executions: removed.executions,
        log_bytes: removed.log_bytes,
    })
}
