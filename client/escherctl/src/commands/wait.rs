//! `wait`: waits for executions to finish.

use escher_client::Status;

use super::targets::for_each_target;
use crate::attached::print_end_reason;
use crate::context::Context;
use crate::exit_status::{self, REFUSED};
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn wait(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let mut status = 0;
    for_each_target(context, targets, async |target| {
        let record = client
            .wait_for_completion(target)
            .await
            .map_err(|error| Failure::from(error).while_attached_to(target))?;
        if targets.len() == 1 {
            status = exit_status::for_record(&record);
            print_end_reason(context, &record);
        } else if record.status != Status::Completed {
            status = REFUSED;
        }
        if context.json {
            print(&json::line(&json::ExecutionObject::from_record(&record)))?;
        }
        Ok(())
    })
    .await?;
    Ok(status)
}
