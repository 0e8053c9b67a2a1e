//! `prune`: removes all finished executions that match.

use crate::args::selection::PruneArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn prune(context: &Context, args: PruneArgs) -> Result<u8, Failure> {
    let selection = args.into_selection()?;
    let client = context.connect().await?;
    let removed = client.prune(selection).await?;
    print(&if context.json {
        json::pruned(removed)
    } else {
        text::pruned(removed)
    })?;
    Ok(0)
}
