//! escherd's own log.

use std::io::IsTerminal;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDestination {
    /// systemd's journal. It stores fields, so the events of executions are written there, too.
    Journal,
    /// Standard error.
    StandardError,
}

/// Sets up logging: to the journal when standard error is connected to it (`JOURNAL_STREAM`,
/// systemd.exec(5)), else to standard error. `ESCHER_LOG` sets the filter, as in
/// `ESCHER_LOG=debug`.
pub fn init() -> LogDestination {
    let filter = EnvFilter::try_from_env("ESCHER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal
            .with_field_prefix(None)
            .with_priority_mappings(PRIORITIES)
            .with_syslog_identifier("escherd".to_owned());
        registry.with(journal).init();
        return LogDestination::Journal;
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    registry.with(lines).init();
    LogDestination::StandardError
}

/// The priorities of syslog(3) that the levels of the log have in the journal.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};
