//! `rm`: removes finished executions.

use super::targets::for_each_target;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{escape, json, print};

pub(super) async fn rm(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    for_each_target(context, targets, async |target| {
        let removed = client.remove_execution(target).await?;
        print(&if context.json {
            json::removed(target, removed)
        } else {
            escape::text(target) + "\n"
        })
    })
    .await
}
