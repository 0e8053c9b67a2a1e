//! `rm`: finished executions, forgotten.

use super::to_each;
use crate::Context;
use crate::failure::Failure;
use crate::render::{escape, json, print};

pub(super) async fn rm(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    to_each(context, targets, async |target| {
        let removed = client.remove_execution(target).await?;
        print(&if context.json {
            json::forgotten(target, removed)
        } else {
            escape::text(target) + "\n"
        })
    })
    .await
}
