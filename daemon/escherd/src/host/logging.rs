//! escherd's own log.

use std::fmt::{self, Debug};
use std::io::IsTerminal;

use tracing::Metadata;
use tracing::field::Field;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::journal_writer::Journal;

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
        && let (Ok(journal), Ok(entries)) = (Journal::connect(), tracing_journald::layer())
    {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(journal)
            .fmt_fields(fields())
            .with_ansi(false)
            .without_time()
            .with_level(false)
            .with_target(false)
            .with_filter(filter_fn(|metadata| !has_message_id(metadata)));
        let entries = entries
            .with_field_prefix(None)
            .with_priority_mappings(PRIORITIES)
            .with_syslog_identifier("escherd".to_owned())
            .with_filter(filter_fn(has_message_id));
        registry.with(lines).with(entries).init();
        return LogDestination::Journal;
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .fmt_fields(fields())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    registry.with(lines).init();
    LogDestination::StandardError
}

/// Whether an event is an entry with fields of its own for the journal. Spans are for lines alone.
fn has_message_id(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.fields().field("MESSAGE_ID").is_some()
}

/// The fields whose value is the reason of the message before it.
const REASONS: [&str; 3] = ["error", "reason", "problem"];

/// Formats fields: the message, the reason behind a colon, then others as `name=value`.
fn fields() -> impl for<'w> FormatFields<'w> + 'static {
    debug_fn(write_field)
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name if REASONS.contains(&name) => write!(writer, ": {value:?}"),
        name => write!(writer, " {name}={value:?}"),
    }
}

/// The priorities of syslog(3) that the levels of the log have in the journal.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};
