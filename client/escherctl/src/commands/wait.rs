//! `wait`: the end of executions.

use escher_client::Status;

use super::to_each;
use crate::Context;
use crate::exit_status::of_record;
use crate::failure::Failure;
use crate::foreground::tell_verdict;
use crate::render::{json, print};

pub(super) async fn wait(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let mut status = 0;
    to_each(context, targets, async |target| {
        let record = client
            .wait_for_completion(target)
            .await
            .map_err(|error| Failure::from(error).leaving(target))?;
        if targets.len() == 1 {
            status = of_record(&record);
            tell_verdict(context, &record);
        } else if record.status != Status::Completed {
            status = 1;
        }
        if context.json {
            print(&json::line(&json::Execution::of_record(&record)))?;
        }
        Ok(())
    })
    .await?;
    Ok(status)
}
