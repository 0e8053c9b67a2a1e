//! Errors on the wire: a permanent number, a name, and text for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::Text;

/// The permanent number of an error. Numbers are never reused; a client displays one that it does
/// not know as `error-<number>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ErrorCode(u16);

/// Defines number, name and whether to retry in one table, so that wire, JSON and docs cannot
/// differ.
macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $constant:ident = $number:literal, $name:literal, retry: $retry:literal;)+) => {
        impl ErrorCode {
            $($(#[doc = $doc])+ pub const $constant: ErrorCode = ErrorCode($number);)+

            /// Every code with its kebab-case name and whether the same request may succeed later.
            pub const TABLE: &'static [(ErrorCode, &'static str, bool)] =
                &[$((ErrorCode($number), $name, $retry)),+];
        }
    };
}

error_codes! {
    // The connection (1–19).
    /// The peer sent bytes that are not a message, or reused a request id; in the former case the
    /// connection is closed.
    PROTOCOL = 1, "protocol", retry: false;
    /// No protocol version in common.
    UNSUPPORTED_VERSION = 2, "unsupported-version", retry: false;
    /// A frame is longer than the limit; the connection is closed.
    FRAME_TOO_LARGE = 3, "frame-too-large", retry: false;
    /// A frame or the handshake took too long; the connection is closed.
    IDLE = 4, "idle", retry: true;
    /// Too many connections, of this user or in total.
    TOO_MANY_CONNECTIONS = 5, "too-many-connections", retry: true;
    /// Too many requests in flight on this connection, or writes to one standard input.
    TOO_MANY_REQUESTS = 6, "too-many-requests", retry: true;
    /// escherd is about to stop.
    SHUTTING_DOWN = 7, "shutting-down", retry: true;
    /// An unexpected failure in escherd; its log has details.
    INTERNAL = 8, "internal", retry: true;
    /// escherd has too few descriptors or too little memory at the moment.
    OVERLOADED = 9, "overloaded", retry: true;
    /// escherd cannot start; the message for people says why, as far as everybody may know.
    NOT_SERVING = 10, "not-serving", retry: true;

    // The request (20–49).
    /// The caller is not permitted to do this.
    PERMISSION_DENIED = 20, "permission-denied", retry: false;
    /// No such execution that the caller may see.
    NOT_FOUND = 21, "not-found", retry: false;
    /// The reference matches several executions.
    AMBIGUOUS = 22, "ambiguous", retry: false;
    /// The key belongs to an execution with another request.
    KEY_CONFLICT = 23, "key-conflict", retry: false;
    /// The request is invalid; the message for people says what is.
    INVALID_REQUEST = 24, "invalid-request", retry: false;
    /// The timeout is longer than the configured maximum.
    TIMEOUT_TOO_LONG = 25, "timeout-too-long", retry: false;
    /// The maximum of waiting executions of all users is reached.
    QUEUE_FULL = 26, "queue-full", retry: true;
    /// No such user on this host.
    UNKNOWN_USER = 27, "unknown-user", retry: false;
    /// The execution is not running, not yet or no longer.
    NOT_RUNNING = 28, "not-running", retry: false;
    /// The execution was submitted without a standard input, or its standard input has ended.
    STDIN_CLOSED = 29, "stdin-closed", retry: false;
    /// There is a gap between this write to standard input and the previous one.
    STDIN_OFFSET = 30, "stdin-offset", retry: false;
    /// The log cannot be read: it was removed or damaged from outside.
    OUTPUT_UNAVAILABLE = 31, "output-unavailable", retry: false;
    /// Some of the requested events are no longer kept.
    EVENTS_MISSED = 32, "events-missed", retry: false;
    /// The store cannot be written, so escherd accepts nothing that it could forget.
    STORE_UNAVAILABLE = 33, "store-unavailable", retry: true;
    /// The execution is not finished, so it cannot be removed.
    NOT_FINISHED = 34, "not-finished", retry: false;
    /// Output is configured to be served once the execution is finished.
    OUTPUT_HELD = 35, "output-held", retry: true;
    /// The configuration has errors; the previous one stays in force.
    INVALID_CONFIGURATION = 36, "invalid-configuration", retry: false;
    /// A limit cannot be enforced on this host: the message for people says which, the hint what is
    /// missing.
    LIMIT_UNENFORCEABLE = 37, "limit-unenforceable", retry: false;
    /// The execution cannot be paused or resumed: its command has no cgroup.
    CANNOT_PAUSE = 38, "cannot-pause", retry: false;
    /// The message has a part that must be understood and that this version does not know; the
    /// message for people names its tag.
    UNSUPPORTED = 39, "unsupported", retry: false;
    /// Arguments and environment are longer than the kernel takes (execve(2), E2BIG).
    ARGUMENTS_TOO_LONG = 40, "arguments-too-long", retry: false;
    /// This user has as many waiting executions as one user may have.
    OVER_QUOTA = 41, "over-quota", retry: true;

    // How an execution ended (60–89), in its outcome.
    /// The program was not found.
    PROGRAM_NOT_FOUND = 60, "program-not-found", retry: false;
    /// The command could not be started; the message names the stage and the errno.
    START_FAILED = 61, "start-failed", retry: false;
    /// The command exited with a status that is not 0.
    EXIT_STATUS = 62, "exit-status", retry: false;
    /// The command was killed by a signal.
    SIGNALLED = 63, "signalled", retry: false;
    /// The execution was ended at its timeout.
    TIMED_OUT = 64, "timed-out", retry: false;
    /// The execution was cancelled.
    CANCELLED = 65, "cancelled", retry: false;
    /// The result of the execution cannot be known.
    LOST = 66, "lost", retry: false;
    /// The output exceeded its limit, and the configuration ends the command in that case.
    OVERSIZED_OUTPUT = 67, "oversized-output", retry: false;
    /// The log is full, and the configuration ends the command in that case.
    LOG_FULL = 68, "log-full", retry: false;
    /// The kernel killed processes of the command for lack of memory, and the command did not
    /// complete.
    OOM_KILLED = 69, "oom-killed", retry: false;
    /// escherd died at every attempt to launch the execution, whose command has not run.
    LAUNCH_ABANDONED = 70, "launch-abandoned", retry: false;
}

impl ErrorCode {
    /// Returns the code with this number, whether this version knows it or not.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        ErrorCode(number)
    }

    /// Returns the permanent number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Returns the kebab-case name; `None` for a number that this version does not know.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.1)
    }

    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.row().is_some_and(|row| row.2)
    }

    fn row(self) -> Option<&'static (ErrorCode, &'static str, bool)> {
        Self::TABLE.iter().find(|row| row.0 == self)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error-{}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({} {self})", self.0)
    }
}

/// An error with text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The permanent code.
    pub code: ErrorCode,
    /// What failed and why, for people: one line without a full stop.
    pub message: Text,
    /// What to do about it, for people, if that is known.
    pub hint: Option<Text>,
    /// Whether the same request may succeed later. It is sent, so that a client can act on a code
    /// that it does not know.
    pub retry: bool,
}

impl ApiError {
    /// Creates an error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<Text>) -> Self {
        ApiError {
            code,
            message: message.into(),
            hint: None,
            retry: code.is_retryable(),
        }
    }

    /// Adds a hint to the error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Text>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outside programs store these numbers and names: a change here breaks them.
    #[test]
    fn numbers_and_names_are_permanent() {
        let table: Vec<(u16, &str, bool)> = ErrorCode::TABLE
            .iter()
            .map(|(code, name, retry)| (code.number(), *name, *retry))
            .collect();
        assert_eq!(
            table,
            [
                (1, "protocol", false),
                (2, "unsupported-version", false),
                (3, "frame-too-large", false),
                (4, "idle", true),
                (5, "too-many-connections", true),
                (6, "too-many-requests", true),
                (7, "shutting-down", true),
                (8, "internal", true),
                (9, "overloaded", true),
                (10, "not-serving", true),
                (20, "permission-denied", false),
                (21, "not-found", false),
                (22, "ambiguous", false),
                (23, "key-conflict", false),
                (24, "invalid-request", false),
                (25, "timeout-too-long", false),
                (26, "queue-full", true),
                (27, "unknown-user", false),
                (28, "not-running", false),
                (29, "stdin-closed", false),
                (30, "stdin-offset", false),
                (31, "output-unavailable", false),
                (32, "events-missed", false),
                (33, "store-unavailable", true),
                (34, "not-finished", false),
                (35, "output-held", true),
                (36, "invalid-configuration", false),
                (37, "limit-unenforceable", false),
                (38, "cannot-pause", false),
                (39, "unsupported", false),
                (40, "arguments-too-long", false),
                (41, "over-quota", true),
                (60, "program-not-found", false),
                (61, "start-failed", false),
                (62, "exit-status", false),
                (63, "signalled", false),
                (64, "timed-out", false),
                (65, "cancelled", false),
                (66, "lost", false),
                (67, "oversized-output", false),
                (68, "log-full", false),
                (69, "oom-killed", false),
                (70, "launch-abandoned", false),
            ]
        );
        assert_eq!(ErrorCode::from_number(999).to_string(), "error-999");
    }
}
