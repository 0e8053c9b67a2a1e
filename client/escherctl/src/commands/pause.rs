//! `pause` and `resume`: executions that stand still for a while.

use super::to_each;
use crate::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn pause(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    to_each(context, targets, async |target| {
        client.pause(target).await?;
        tell(context, target, true)
    })
    .await
}

pub(super) async fn resume(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    to_each(context, targets, async |target| {
        client.resume(target).await?;
        tell(context, target, false)
    })
    .await
}

fn tell(context: &Context, target: &str, paused: bool) -> Result<(), Failure> {
    print(&if context.json {
        json::paused(target, paused)
    } else {
        text::paused(target, paused)
    })
}
