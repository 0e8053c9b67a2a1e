//! `events`: shows what happens to executions.

use escher_client::EventsRequest;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn events(context: &Context, follow: bool) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let request = EventsRequest {
        after: None,
        follow,
    };
    let mut events = client.events(request).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        print(&if context.json {
            json::event(&event)
        } else {
            text::event(&event)
        })?;
    }
    Ok(0)
}
