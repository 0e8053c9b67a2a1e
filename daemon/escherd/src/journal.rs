//! Writes the events of executions to the journal: an entry for each event, with fields to search
//! for (systemd.journal-fields(7)). `journalctl ESCHER_EXECUTION_ID=…` shows one execution; the
//! message catalog (`systemd/escher.catalog`) explains each kind of entry.
//!
//! Most commands have one entry, at their end: a warning if they failed. What others do to a command
//! has an entry of its own. Submission and start have entries with `ESCHER_LOG=debug`.

use escher_protocol::message::{Event, EventKind, EventsRequest};
use escher_protocol::{ErrorCode, ExecutionRecord, Status};
use tracing::{debug, info, warn};

use crate::api::{Events, ExecutionEngine};
use crate::execution::shown_command;

/// `MESSAGE_ID` of a submission. These ids are permanent: catalogs and scripts refer to them.
const SUBMITTED: &str = "fe683f76cfb74aebab6743798cf9c83d";
/// `MESSAGE_ID` of a start.
const STARTED: &str = "1a94d341058e475a9d75efb2f9f630c3";
/// `MESSAGE_ID` of a cancel request.
const CANCEL_REQUESTED: &str = "e80557d31479468490beb47a4ef3a0bd";
/// `MESSAGE_ID` of an end.
const FINISHED: &str = "848ff98158534359a683cc8f228a869c";

/// Writes the events of all executions in the scope of `engine`, from its start until it stops.
pub async fn write_events(engine: ExecutionEngine) {
    let Ok(mut events) = engine.events_since_start().await else {
        return;
    };
    while let Err(error) = write_all(&engine, &mut events).await {
        if error.code != ErrorCode::EVENTS_MISSED {
            return;
        }
        warn!(%error, "events were missed: the journal lacks some entries");
        let newest = EventsRequest {
            after: Some(u64::MAX),
            follow: true,
        };
        match engine.events(newest).await {
            Ok(newest) => events = newest,
            Err(_) => return,
        }
    }
}

async fn write_all(
    engine: &ExecutionEngine,
    events: &mut Events,
) -> Result<(), escher_protocol::ApiError> {
    while let Some(event) = events.next().await {
        let event = event?;
        // An execution that was removed has no record any more.
        let record = engine.get_status(event.id).await.ok();
        write(&event, record.as_ref());
    }
    Ok(())
}

fn write(event: &Event, record: Option<&ExecutionRecord>) {
    let id = event.id.to_string();
    let number = event.number;
    let user = record
        .map_or(&event.user, |record| &record.user)
        .to_string();
    let command = record.map(|record| shown_command(&record.command));
    let command = command.unwrap_or_default();
    // tracing needs the level and the message of each entry as literals.
    macro_rules! entry {
        ($level:ident, $kind:expr, $status:expr, $($message:tt)+) => {
            $level!(
                MESSAGE_ID = $kind,
                ESCHER_EXECUTION_ID = id,
                ESCHER_EXECUTION_NUMBER = number,
                ESCHER_USER = user,
                ESCHER_COMMAND = command,
                ESCHER_STATUS = $status.name(),
                $($message)+
            )
        };
    }
    match &event.kind {
        EventKind::Submitted => entry!(
            debug,
            SUBMITTED,
            Status::Pending,
            "execution {number} of {user} was submitted: {command}"
        ),
        EventKind::Started => entry!(
            debug,
            STARTED,
            Status::Running,
            "execution {number} of {user} has started: {command}"
        ),
        EventKind::CancelRequested(by) => entry!(
            info,
            CANCEL_REQUESTED,
            Status::Running,
            "{by} cancels execution {number} of {user}: {command}"
        ),
        EventKind::Finished(status) => {
            let error = record.and_then(|record| record.outcome.as_ref()?.error.as_ref());
            let why = error.map_or_else(String::new, |error| format!(" ({})", error.message));
            match status {
                Status::Lost => entry!(
                    warn,
                    FINISHED,
                    status,
                    "execution {number} of {user} is lost{why}: {command}"
                ),
                Status::Failed | Status::Timeout => entry!(
                    warn,
                    FINISHED,
                    status,
                    "execution {number} of {user} has finished, {status}{why}: {command}"
                ),
                _ => entry!(
                    info,
                    FINISHED,
                    status,
                    "execution {number} of {user} has finished, {status}{why}: {command}"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalog_explains_every_kind_of_entry() {
        let catalog = include_str!("../../../systemd/escher.catalog");
        let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
        assert_eq!(entries.len(), 4, "the catalog has another entry");
        for kind in [SUBMITTED, STARTED, CANCEL_REQUESTED, FINISHED] {
            let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            assert!(kind.len() == 32 && kind.chars().all(is_digit));
            let entry = entries.iter().find(|entry| entry.starts_with(kind));
            let entry = entry.unwrap_or_else(|| panic!("{kind} is not in the catalog"));
            for field in ["Subject: ", "Defined-By: escher", "Support: "] {
                assert!(
                    entry.contains(&format!("\n{field}")),
                    "{kind} lacks {field}"
                );
            }
        }
    }
}
