//! `prune`: all finished executions that fit, forgotten.

use escher_client::{ListFilter, Selection};

use crate::Context;
use crate::args::PruneArgs;
use crate::args::filter;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn prune(context: &Context, args: PruneArgs) -> Result<u8, Failure> {
    let all = ListFilter {
        all: true,
        ..ListFilter::default()
    };
    let selection = Selection {
        filter: filter::narrow(all, args.filters)?,
        since: None,
        until: args.until.map(|moment| moment.0),
    };
    let client = context.connect().await?;
    let removed = client.prune(selection).await?;
    print(&if context.json {
        json::removed(removed)
    } else {
        text::removed(removed)
    })?;
    Ok(0)
}
