//! Whether escherd and what it stands on are well: what an operator would look at, each with what to do about it.
//!
//! A file per thing that is looked at. No check changes anything, and none knows where its material comes from: the
//! [`api`](crate::api) has what concerns an engine ([`Subject`]), [`reload`](crate::reload) the configuration.

mod configuration;
mod directories;
mod history;
mod kernel;
mod limits;
mod programs;
mod supervision;

pub use configuration::{configuration, policies};
pub use supervision::supervision;

use std::time::Duration;

use escher_protocol::{ApiError, Diagnostic};

use crate::authz::AdminPermit;
use crate::config::{EngineConfig, ExecutionSettings};
use crate::host::fd_budget::Budget;
use crate::launch::LauncherState;
use crate::scheduler::Counts;
use crate::store::{FlushTimeout, HistorySize};

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Somebody who may know everything.
    Administrator,
    /// Anybody who may connect: nothing of what is in files that may be closed to them.
    Anybody,
}

impl Audience {
    /// By what somebody may do.
    #[must_use]
    pub fn of(permit: Option<&AdminPermit>) -> Self {
        match permit {
            Some(_) => Audience::Administrator,
            None => Audience::Anybody,
        }
    }

    /// `detail` for those who may know it, with what comes before it.
    fn detail(self, detail: impl Fn() -> String) -> String {
        match self {
            Audience::Administrator => format!(": {}", detail()),
            Audience::Anybody => String::new(),
        }
    }
}

/// What an engine knows of itself.
#[derive(Debug)]
pub struct Subject {
    /// As it was at the start.
    pub config: EngineConfig,
    /// What is set now.
    pub settings: ExecutionSettings,
    /// The launcher that is connected.
    pub launcher: Option<LauncherState>,
    /// What waits and runs.
    pub counts: Counts,
    /// For how long the first that waits has done so.
    pub longest_wait: Option<Duration>,
    /// What the open files are enough for.
    pub budget: Budget,
    /// How many connections were asked for.
    pub wanted_connections: usize,
    /// How much the store has, or that it cannot be read.
    pub stored: Result<HistorySize, ApiError>,
    /// Whether the store could be brought up to date.
    pub settled: Result<(), FlushTimeout>,
}

/// Examines an engine. Reads directories and tries system calls, so it is not for the event loop.
#[must_use]
pub fn engine(subject: &Subject, audience: Audience) -> Vec<Diagnostic> {
    [
        programs::launcher(subject.launcher.as_ref()),
        directories::examine(&subject.config, subject.settings.log_limits.min_free_bytes),
        history::examine(subject, audience),
        limits::examine(subject),
        kernel::examine(&subject.config.state_dir),
    ]
    .concat()
}

/// A number of bytes as people read it.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut shown = format!("{count} bytes");
    let mut rest = count;
    for unit in UNITS {
        if rest < 1024 {
            break;
        }
        let tenths = rest % 1024 * 10 / 1024;
        rest /= 1024;
        shown = format!("{rest}.{tenths} {unit}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        let table = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536 * 1024, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (count, shown) in table {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn details_are_for_those_who_may_know_them() {
        let detail = || "a secret".to_owned();
        assert_eq!(Audience::Administrator.detail(detail), ": a secret");
        assert_eq!(Audience::Anybody.detail(detail), "");
    }
}
