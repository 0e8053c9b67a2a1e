//! `events`: shows what happens to executions.

use escher_client::{EventsRequest, EventsStart};

use crate::args::event_condition;
use crate::args::verbs::EventsArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn events(context: &Context, args: EventsArgs) -> Result<u8, Failure> {
    let request = EventsRequest {
        start: match (args.lines, args.since) {
            (Some(count), _) => EventsStart::Last(count),
            (None, Some(time)) => EventsStart::Since(time.0),
            (None, None) if args.follow => EventsStart::Last(0),
            (None, None) => EventsStart::Oldest,
        },
        filter: event_condition::into_filter(args.filters)?,
        follow: args.follow,
    };
    let client = context.connect().await?;
    let mut events = client.events(request).await?;
    let zone = context.view().zone;
    while let Some(event) = events.next().await {
        let event = event?;
        print(&if context.json {
            json::event(&event)
        } else {
            text::event(&event, &zone)
        })?;
    }
    Ok(0)
}
