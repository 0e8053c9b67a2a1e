//! Diagnoses problems of escherd and of what it depends on, with advice for each.
//!
//! Each file is about one subject, and has one or several checks. No check changes anything. What
//! escherd knows of itself is passed to the checks: [`api`](crate::api) passes an
//! [`EngineSnapshot`], and [`reload`](crate::reload) what a reload would change.

mod capacity;
mod configuration;
mod daemon;
mod directories;
mod disk_space;
mod kernel;
mod launcher;
mod store;

pub use configuration::{InstanceKind, diagnose_configuration};
pub use daemon::diagnose_daemon;

use std::time::Duration;

use escher_protocol::{ApiError, Diagnostic};

use crate::authz::AdminPermit;
use crate::config::{EngineSettings, ReloadableSettings};
use crate::host::fd_budget::FdBudget;
use crate::host::service_manager::ServiceManager;
use crate::launch::LauncherState;
use crate::scheduler::Counts;
use crate::store::{FlushTimeout, HistorySize};

/// The readers of the diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// An administrator, who may know everything.
    Administrator,
    /// Everybody who may connect. The contents of files that they may not be allowed to read are
    /// left out.
    Everybody,
}

impl Audience {
    /// Returns the audience that has, or lacks, a permit.
    #[must_use]
    pub fn from_permit(permit: Option<&AdminPermit>) -> Self {
        match permit {
            Some(_) => Audience::Administrator,
            None => Audience::Everybody,
        }
    }

    /// Returns `: detail` for an administrator, and nothing for others.
    fn detail(self, detail: impl Fn() -> String) -> String {
        match self {
            Audience::Administrator => format!(": {}", detail()),
            Audience::Everybody => String::new(),
        }
    }
}

/// The state of an engine, as it is known to the engine itself.
#[derive(Debug)]
pub struct EngineSnapshot {
    /// The settings with which it was started.
    pub settings_at_start: EngineSettings,
    /// Those of its settings that can change, as they are now.
    pub settings_in_force: ReloadableSettings,
    /// The connected launcher.
    pub launcher: Option<LauncherState>,
    /// Numbers of pending and running executions.
    pub counts: Counts,
    /// How long the first in the queue has waited.
    pub longest_wait: Option<Duration>,
    /// What the limit on open files allows.
    pub fd_budget: FdBudget,
    /// The configured number of connections.
    pub wanted_connections: usize,
    /// Size of the history, or why the store cannot be read.
    pub history_size: Result<HistorySize, ApiError>,
    /// The service manager that runs the program.
    pub manager: ServiceManager,
    /// Whether all changes could be written to the store.
    pub flushed: Result<(), FlushTimeout>,
}

/// Diagnoses an engine. Reads directories and tries system calls, so it must not run on the event
/// loop.
#[must_use]
pub fn diagnose_engine(engine: &EngineSnapshot, audience: Audience) -> Vec<Diagnostic> {
    [
        launcher::diagnose(
            engine.launcher.as_ref(),
            launcher::Source {
                is_service: engine.settings_at_start.launcher_socket.is_some(),
                manager: engine.manager,
            },
        ),
        directories::diagnose(&engine.settings_at_start),
        disk_space::diagnose(&engine.settings_at_start, &engine.settings_in_force),
        store::diagnose(engine, audience),
        capacity::diagnose(engine),
        kernel::diagnose(&engine.settings_at_start.state_dir),
    ]
    .concat()
}

/// Formats a number of bytes in the largest unit that fits.
fn format_bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut shown = match count {
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    };
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
    fn formats_bytes_in_the_largest_unit_that_fits() {
        let table = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536 * 1024, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (count, shown) in table {
            assert_eq!(format_bytes(count), shown);
        }
    }

    #[test]
    fn only_administrators_get_details() {
        let detail = || "a secret".to_owned();
        assert_eq!(Audience::Administrator.detail(detail), ": a secret");
        assert_eq!(Audience::Everybody.detail(detail), "");
    }
}
