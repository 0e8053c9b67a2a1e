//! The events of executions.

use escher_protocol::message::{EventsRequest, EventsStart};
use escher_protocol::{ApiError, json};
use tokio::time::timeout;

use super::call::{Call, Reply};
use super::feed::{self, Feed, HEARTBEAT};
use super::media::{EVENTS, LINES, negotiate};
use super::streaming::produced;
use crate::api::Events;

pub(super) async fn events(call: Call) -> Reply {
    let query = call.parameters(&["after", "follow"])?;
    let media = negotiate(&call.headers, &[LINES, EVENTS])?;
    let follow = query.flag("follow")?;
    let resumed = match media {
        EVENTS => feed::last_event_id(&call.headers)?,
        _ => None,
    };
    let after = resumed.or(query.number("after")?);
    // Without following at first, so that missed events are an error of the request.
    let request = EventsRequest {
        start: after.map_or(EventsStart::Oldest, EventsStart::After),
        ..EventsRequest::default()
    };
    let mut events = call.engine.events(request).await?;
    let first = events.next().await.transpose()?;
    let memory = call.memory;
    let body = produced(move |parts| async move {
        let mut feed = Feed::new(parts, media, memory);
        feed.begin().await;
        let mut position = after.unwrap_or(0);
        let sent = send_events(events, first, follow, &mut feed, &mut position).await;
        if let Err(error) = sent {
            feed.fail(position, &error).await;
        }
        Ok(())
    });
    Ok(feed::response(body, media))
}

/// Sends events until there are no more; with `follow` until the client has enough.
async fn send_events(
    mut events: Events,
    mut next: Option<escher_protocol::message::Event>,
    follow: bool,
    feed: &mut Feed,
    position: &mut u64,
) -> Result<(), ApiError> {
    loop {
        match next {
            Some(event) => {
                *position = event.sequence;
                let object = json::event(&event);
                feed.send(event.kind.name(), event.sequence, object).await;
                feed.rest();
            }
            None if follow => events.follow(),
            None => return Ok(()),
        }
        next = loop {
            match timeout(HEARTBEAT, events.next()).await {
                Ok(event) => break event.transpose()?,
                Err(_) => feed.heartbeat().await,
            }
        };
    }
}
