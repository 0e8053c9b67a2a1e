//! Streams of objects: as server-sent events, or as one object per line.
//!
//! Both carry the objects of `--json`. A stream that is complete ends with an object `end`, and one that
//! fails with an object `error`.

use std::time::Duration;

use escher_protocol::{ApiError, json};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response};

use super::media::EVENTS;
use super::problem::Problem;
use super::streaming::{Body, Parts};
use crate::server::memory::{Charge, UserMemory};
use crate::server::outbox::STREAM_BYTES;

/// Time without an event after which a client of server-sent events gets a comment. So both sides notice
/// a connection that is gone, and proxies do not take it for idle.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream of objects to one client.
pub(super) struct Feed {
    parts: Parts,
    is_sse: bool,
    memory: UserMemory,
    charge: Charge,
}

impl Feed {
    /// Creates a feed of the media type `media`, of which nothing is sent yet.
    pub(super) fn new(parts: Parts, media: &str, memory: UserMemory) -> Self {
        Feed {
            parts,
            is_sse: media == EVENTS,
            charge: memory.nothing(),
            memory,
        }
    }

    /// Begins the feed: says how soon a client should reconnect.
    pub(super) async fn begin(&mut self) {
        if self.is_sse {
            self.parts.send("retry: 1000\n\n", &mut self.charge).await;
        }
    }

    /// Gives back the memory of what was sent.
    pub(super) fn rest(&mut self) {
        self.charge = self.memory.nothing();
    }

    /// Waits for the memory of what is read next.
    pub(super) async fn make_room(&mut self) {
        self.rest();
        self.charge = self.memory.charge(STREAM_BYTES).await;
    }

    /// Sends an object. A client that reconnects with `position` as `Last-Event-ID` gets what follows it.
    pub(super) async fn send(&mut self, name: &str, position: u64, object: String) {
        let text = if self.is_sse {
            format!("id: {position}\nevent: {name}\ndata: {object}\n")
        } else {
            object
        };
        self.parts.send(text, &mut self.charge).await;
    }

    /// Sends a sign of life.
    pub(super) async fn heartbeat(&mut self) {
        if self.is_sse {
            self.parts.send(":\n\n", &mut self.charge).await;
        }
    }

    /// Ends the feed after an error.
    pub(super) async fn fail(&mut self, position: u64, error: &ApiError) {
        self.send("error", position, json::error(error)).await;
    }
}

/// Returns the answer that has `body`, a feed of the media type `media`.
pub(super) fn response(body: Body, media: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns where a client of server-sent events goes on.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Box<Problem>> {
    let field = "Last-Event-ID";
    let invalid = || Problem::invalid(field, "it is the id of an event of this stream");
    let parse = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    let value = headers.get(field).filter(|value| !value.is_empty());
    value
        .map(|value| parse(value).ok_or_else(invalid))
        .transpose()
}
