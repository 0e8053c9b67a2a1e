//! `rm`: removes finished executions.

use super::selected::{Selectable, selected};
use super::targets::for_each_target;
use crate::args::selection::TargetsOrFilterArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{escape, json, print};

pub(super) async fn rm(context: &Context, args: &TargetsOrFilterArgs) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let targets = selected(context, &client, args, Selectable::Finished).await?;
    for_each_target(context, &targets, async |target| {
        let removed = client.remove_execution(target).await?;
        print(&if context.json {
            json::removed(target, removed)
        } else {
            escape::text(target) + "\n"
        })
    })
    .await
}
