//! `kill`: sends a signal to executions.

use super::targets::for_each_target;
use crate::args::signal::SignalNumber;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn kill(
    context: &Context,
    SignalNumber(signal): SignalNumber,
    tree: bool,
    targets: &[String],
) -> Result<u8, Failure> {
    let client = context.connect().await?;
    for_each_target(context, targets, async |target| {
        if tree {
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
