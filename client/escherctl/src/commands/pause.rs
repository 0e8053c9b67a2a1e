//! `pause` and `resume`: stop and continue all processes of executions.

use super::selected::{Selectable, selected};
use super::targets::for_each_target;
use crate::args::selection::TargetsOrFilterArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn pause(context: &Context, args: &TargetsOrFilterArgs) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let targets = selected(context, &client, args, Selectable::Running).await?;
    for_each_target(context, &targets, async |target| {
        client.pause(target).await?;
        print_state(context, target, true)
    })
    .await
}

pub(super) async fn resume(context: &Context, args: &TargetsOrFilterArgs) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let targets = selected(context, &client, args, Selectable::Running).await?;
    for_each_target(context, &targets, async |target| {
        client.resume(target).await?;
        print_state(context, target, false)
    })
    .await
}

fn print_state(context: &Context, target: &str, is_paused: bool) -> Result<(), Failure> {
    print(&if context.json {
        json::paused(target, is_paused)
    } else {
        text::paused(target, is_paused)
    })
}
