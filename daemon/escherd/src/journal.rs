//! The lives of executions in the journal: an entry for each event, with fields by which it is found
//! (systemd.journal-fields(7)). `journalctl ESCHER_EXECUTION_ID=…` shows one life; the message catalog
//! (`systemd/escher.catalog`) says more about each kind of entry.

use escher_protocol::message::{Event, EventKind, EventsRequest};
use escher_protocol::{ErrorCode, ExecutionRecord, Status};
use tracing::{info, warn};

use crate::api::{Events, ExecutionEngine};
use crate::execution::shown_command;

/// `MESSAGE_ID` of an execution that was submitted. These are for ever: catalogs and scripts know them.
const SUBMITTED: &str = "fe683f76cfb74aebab6743798cf9c83d";
/// Of one that has started.
const STARTED: &str = "1a94d341058e475a9d75efb2f9f630c3";
/// Of one whose end somebody wants.
const CANCEL_REQUESTED: &str = "e80557d31479468490beb47a4ef3a0bd";
/// Of one that is over.
const FINISHED: &str = "848ff98158534359a683cc8f228a869c";

/// Writes what happens to the executions that `engine` sees, from its start on, until it stops.
pub async fn write_events(engine: ExecutionEngine) {
    let Ok(mut events) = engine.events_since_start().await else {
        return;
    };
    while let Err(error) = write_all(&engine, &mut events).await {
        if error.code != ErrorCode::EVENTS_MISSED {
            return;
        }
        warn!(%error, "the journal lacks what happened to some executions");
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
        // One that was removed already has no more than its event.
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
    // One call for each kind: what an entry is made of is fixed where it is written.
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
            info,
            SUBMITTED,
            Status::Pending,
            "execution {number} of {user} was submitted: {command}"
        ),
        EventKind::Started => entry!(
            info,
            STARTED,
            Status::Running,
            "execution {number} of {user} has started: {command}"
        ),
        EventKind::CancelRequested(by) => entry!(
            info,
            CANCEL_REQUESTED,
            Status::Running,
            "{by} wants the end of execution {number} of {user}: {command}"
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
                _ => entry!(
                    info,
                    FINISHED,
                    status,
                    "execution {number} of {user} is over, {status}{why}: {command}"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_explains_every_kind_of_entry() {
        let catalog = include_str!("../../../systemd/escher.catalog");
        let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
        assert_eq!(entries.len(), 4, "and no other");
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
