//! Events.

use serde::Serialize;

use super::object::{line, owned, rfc3339};
use crate::message::{Event, EventKind};

/// Returns the object for an event.
pub fn event(event: &Event) -> String {
    #[derive(Serialize)]
    struct Line {
        sequence: u64,
        time: String,
        kind: &'static str,
        id: String,
        number: u64,
        name: Option<String>,
        user: String,
        uid: u32,
        /// Only with kind `finished`.
        status: Option<&'static str>,
        /// Only with kind `cancel-requested`.
        cancelled_by: Option<String>,
    }
    let (status, cancelled_by) = match &event.kind {
        EventKind::Finished(status) => (Some(status.name()), None),
        EventKind::CancelRequested(by) => (None, Some(by.to_string())),
        EventKind::Submitted | EventKind::Started => (None, None),
    };
    line(&Line {
        sequence: event.sequence,
        time: rfc3339(event.time),
        kind: event.kind.name(),
        id: event.id.to_string(),
        number: event.number,
        name: owned(event.name.as_ref()),
        user: event.user.to_string(),
        uid: event.user.uid,
        status,
        cancelled_by,
    })
}
