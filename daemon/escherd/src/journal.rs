//! Writes the events of executions to the journal: an entry for each event, with fields to search
//! for (systemd.journal-fields(7)). `journalctl ESCHER_EXECUTION_ID=…` shows one execution; the
//! message catalog (`systemd/escher.catalog`) explains each kind of entry.
//!
//! Most commands have one entry, at their end: a warning if they failed. What others do to a command
//! has an entry of its own. Submission and start have entries with `ESCHER_LOG=debug`.

use escher_protocol::message::{Event, EventKind, EventsRequest, EventsStart};
use escher_protocol::{ErrorCode, ExecutionRecord, Status};
use tracing::{debug, info, warn};

use crate::api::{Events, ExecutionEngine};
use crate::execution::shown_command;
use crate::message_ids::{CANCEL_REQUESTED, FINISHED, STARTED, SUBMITTED};

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
            start: EventsStart::Last(0),
            follow: true,
            ..EventsRequest::default()
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
