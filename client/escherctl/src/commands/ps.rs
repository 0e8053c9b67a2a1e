//! `ps`: lists executions.

use escher_client::Timestamp;

use crate::args::selection::PsArgs;
use crate::context::{Context, print_notice};
use crate::failure::Failure;
use crate::render::{json, print, table, text};

pub(super) async fn ps(context: &Context, args: PsArgs) -> Result<u8, Failure> {
    let limit = args.limit;
    let selection = args.into_selection()?;
    let client = context.connect().await?;
    let mut executions = client.list_executions(selection).await?;
    let mut records = Vec::new();
    let (mut shown, mut is_truncated) = (0, false);
    while let Some(record) = executions.next().await {
        let record = record?;
        if limit > 0 && shown == limit {
            is_truncated = true;
            break;
        }
        shown += 1;
        if context.json {
            print(&json::line(&json::ExecutionObject::from_record(&record)))?;
        } else {
            records.push(record);
        }
    }
    if !context.json {
        print(&table::executions(&records, Timestamp::now()))?;
        if is_truncated && !context.quiet {
            print_notice(&text::list_truncated(limit));
        }
    }
    Ok(0)
}
