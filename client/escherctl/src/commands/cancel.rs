//! `cancel`: the end of executions, politely first.

use escher_client::CancelMode;

use super::to_each;
use crate::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn cancel(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    to_each(context, targets, async |target| {
        let outcome = client.cancel(target, CancelMode::Graceful).await?;
        print(&if context.json {
            json::cancel(target, outcome)
        } else {
            text::cancel(target, outcome)
        })
    })
    .await
}
