//! Where escherd's own log goes.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Sets up logging: to the journal when standard error is connected to it (systemd.exec(5),
/// `JOURNAL_STREAM`), else to standard error. `ESCHER_LOG` filters, as in `ESCHER_LOG=debug`.
pub fn init() {
    let filter = EnvFilter::try_from_env("ESCHER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal
            .with_field_prefix(None)
            .with_syslog_identifier("escherd".to_owned());
        registry.with(journal).init();
        return;
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    registry.with(lines).init();
}
