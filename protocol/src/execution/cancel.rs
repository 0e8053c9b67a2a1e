//! Cancels: how an execution is to be ended, and by whom.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::user::User;

/// How a cancel ends an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelMode {
    /// The kill ladder: SIGTERM, the grace period, SIGKILL.
    Graceful,
    /// SIGKILL at once, also during a kill ladder.
    Kill,
    /// The kill ladder with this signal in place of SIGTERM.
    Signal(i32),
}

/// Who requested a cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Canceller {
    /// A user, by a request.
    User(User),
    /// The host or the service, because it stops.
    Host,
    /// escherd, because the command's standard input was lost ([`StdinLost`](super::StdinLost)).
    StdinLost,
}

impl fmt::Display for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Canceller::User(user) => user.fmt(f),
            Canceller::Host => f.write_str("host"),
            Canceller::StdinLost => f.write_str("stdin-lost"),
        }
    }
}
