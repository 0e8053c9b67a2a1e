//! `cancel`: ends executions, gracefully at first.

use escher_client::CancelMode;

use super::targets::for_each_target;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn cancel(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    for_each_target(context, targets, async |target| {
        let answer = client.cancel(target, CancelMode::Graceful).await?;
        print(&if context.json {
            json::cancelled(target, answer)
        } else {
            text::cancelled(target, answer)
        })
    })
    .await
}
