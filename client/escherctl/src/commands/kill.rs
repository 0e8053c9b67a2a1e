//! `kill`: sends a signal to executions.

use super::selected::{Selectable, selected};
use super::targets::for_each_target;
use crate::args::verbs::KillArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn kill(context: &Context, args: &KillArgs) -> Result<u8, Failure> {
    let signal = args.signal.0;
    let client = context.connect().await?;
    let targets = selected(context, &client, &args.targets, Selectable::Running).await?;
    for_each_target(context, &targets, async |target| {
        if args.tree {
            client.signal_tree(target, signal).await?;
        } else {
            client.signal(target, signal).await?;
        }
        if context.json {
            print(&json::signalled(target, signal))?;
        }
        Ok(())
    })
    .await
}
