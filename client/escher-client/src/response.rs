//! Extracts the expected type from a response.

use escher_protocol::message::Removed;
use escher_protocol::{ExecutionRecord, Item, Response};

use crate::error::Error;

/// The tags of the parts of a record that this library interprets: none are defined yet.
const KNOWN_RECORD_PARTS: &[u32] = &[];

/// Returns the error of a response of another type than `expected`.
pub(crate) fn unexpected(expected: &'static str, response: &Response) -> Error {
    let received = match response {
        Response::Submitted(_) => "a submission",
        Response::Execution(_) => "an execution",
        Response::Cancel(_) => "a cancellation",
        Response::StdinAccepted { .. } => "an offset",
        Response::Info(_) => "information",
        Response::Done => "a bare confirmation",
        Response::Removed(_) => "a removal",
        Response::Settings(_) => "settings",
        Response::Reloaded(_) => "a reload",
        Response::Metrics(_) => "metrics",
        Response::Diagnostics(_) => "diagnostics",
        Response::Quotas(_) => "quotas",
        Response::Signal(_) => "the answer to a signal",
        Response::CurrentUsage(_) => "the current usage",
    };
    Error::unexpected_response(expected, received)
}

pub(crate) fn execution(response: Response) -> Result<ExecutionRecord, Error> {
    match response {
        Response::Execution(record) => ensure_understood(*record),
        other => Err(unexpected("an execution", &other)),
    }
}

pub(crate) fn done(response: Response, expected: &'static str) -> Result<(), Error> {
    match response {
        Response::Done => Ok(()),
        other => Err(unexpected(expected, &other)),
    }
}

pub(crate) fn removed(response: Response) -> Result<Removed, Error> {
    match response {
        Response::Removed(removed) => Ok(removed),
        other => Err(unexpected("a removal", &other)),
    }
}

/// Returns how much of the standard input has arrived.
pub(crate) fn accepted_offset(response: Response) -> Result<u64, Error> {
    match response {
        Response::StdinAccepted { offset } => Ok(offset),
        other => Err(unexpected("an offset of standard input", &other)),
    }
}

/// Refuses a record with an unknown part that must be understood.
pub(crate) fn ensure_understood(record: ExecutionRecord) -> Result<ExecutionRecord, Error> {
    match record.parts.ensure_understood(KNOWN_RECORD_PARTS) {
        Ok(()) => Ok(record),
        Err(unsupported) => Err(Error::Api(unsupported.into())),
    }
}

/// Returns the name of an item's type, for errors.
pub(crate) fn item_type(item: &Item) -> &'static str {
    match item {
        Item::Execution(_) => "an execution",
        Item::Output(_) => "output",
        Item::Event(_) => "an event",
        Item::Omitted(_) => "an omission",
        Item::Gap(_) => "missing output",
        Item::StdinHeld { .. } => "an offset",
        Item::EventsAfter { .. } => "the place of events",
        Item::Usage(_) => "a usage",
    }
}
