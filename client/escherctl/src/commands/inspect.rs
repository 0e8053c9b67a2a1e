//! `inspect`: everything about executions.

use escher_client::Timestamp;

use super::to_each;
use crate::Context;
use crate::args::resources;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn inspect(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let mut first = true;
    to_each(context, targets, async |target| {
        let record = client.get_status(target).await?;
        let resources = resources::of(&client, &record).await?;
        if context.json {
            let execution = json::Execution::of_record(&record).with_resources(resources);
            return print(&json::line(&execution));
        }
        let gap = if first { "" } else { "\n" };
        first = false;
        print(&format!(
            "{gap}{}",
            text::inspect(&record, resources.as_ref(), Timestamp::now())
        ))
    })
    .await
}
