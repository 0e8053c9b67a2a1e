//! `wait`: waits for executions to finish.

use escher_client::{Client, ExecutionRecord, Status};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::targets::for_each_target;
use crate::args::verbs::WaitArgs;
use crate::attached::print_end_reason;
use crate::context::Context;
use crate::exit_status::{self, REFUSED};
use crate::failure::Failure;
use crate::render::{escape, json, print};

pub(super) async fn wait(context: &Context, args: &WaitArgs) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let targets = &args.targets.targets;
    let waiting = async {
        if args.any {
            wait_for_any(context, &client, targets).await
        } else {
            wait_for_all(context, &client, targets).await
        }
    };
    let Some(limit) = &args.timeout else {
        return waiting.await;
    };
    let ended = timeout(limit.0, waiting).await;
    ended.unwrap_or_else(|_| {
        Err(Failure::StillRunning {
            targets: targets.clone(),
            waited: limit.0,
        })
    })
}

async fn wait_for_all(
    context: &Context,
    client: &Client,
    targets: &[String],
) -> Result<u8, Failure> {
    let mut status = 0;
    for_each_target(context, targets, async |target| {
        let record = completed(client, target).await?;
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

/// Waits for the first that finishes, or whose state cannot be known, and prints which it is.
async fn wait_for_any(
    context: &Context,
    client: &Client,
    targets: &[String],
) -> Result<u8, Failure> {
    let most = client.welcome().limits.max_requests_in_flight;
    if targets.len() > most as usize {
        return Err(Failure::usage(
            format!("--any waits for at most {most} executions at once"),
            None,
        ));
    }
    let mut waiting = JoinSet::new();
    for target in targets {
        let (client, target) = (client.clone(), target.clone());
        waiting.spawn(async move {
            let record = completed(&client, &target).await?;
            Ok::<_, Failure>((target, record))
        });
    }
    let ended = waiting.join_next().await;
    let Some(Ok(first)) = ended else {
        let message = "cannot wait for any execution";
        return Err(Failure::system(message, std::io::ErrorKind::Other.into()));
    };
    let (target, record) = first?;
    print_end_reason(context, &record);
    print(&if context.json {
        json::line(&json::ExecutionObject::from_record(&record))
    } else {
        escape::text(&target) + "\n"
    })?;
    Ok(exit_status::for_record(&record))
}

async fn completed(client: &Client, target: &str) -> Result<ExecutionRecord, Failure> {
    let record = client.wait_for_completion(target).await;
    record.map_err(|error| Failure::from(error).while_attached_to(target))
}
