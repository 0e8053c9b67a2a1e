//! `inspect`: everything about executions.

use escher_client::Timestamp;

use super::to_each;
use crate::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn inspect(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let mut first = true;
    to_each(context, targets, async |target| {
        let record = client.get_status(target).await?;
        if context.json {
            return print(&json::line(&json::Execution::of_record(&record)));
        }
        let gap = if first { "" } else { "\n" };
        first = false;
        print(&format!(
            "{gap}{}",
            text::inspect(&record, Timestamp::now())
        ))
    })
    .await
}
