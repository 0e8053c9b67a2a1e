//! `prune`: all finished executions that fit, forgotten.

use escher_client::{ListFilter, Selection};

use super::filter;
use crate::cli::Context;
use crate::cli::args::PruneArgs;
use crate::cli::failure::Failure;
use crate::cli::render::{json, print, text};

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
