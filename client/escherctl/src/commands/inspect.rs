//! `inspect`: shows the details of executions.

use escher_client::Timestamp;

use super::targets::for_each_target;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn inspect(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let mut is_first = true;
    for_each_target(context, targets, async |target| {
        let record = client.get_status(target).await?;
        if context.json {
            return print(&json::line(&json::ExecutionObject::from_record(&record)));
        }
        let separator = if is_first { "" } else { "\n" };
        is_first = false;
        print(&format!(
            "{separator}{}",
            text::inspect(&record, Timestamp::now())
        ))
    })
    .await
}
