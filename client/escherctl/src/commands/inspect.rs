//! `inspect`: shows the details of executions.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use escher_client::{ApiError, Client, CurrentUsage, Error, ErrorCode, ExecutionRecord, Status};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::targets::for_each_target;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn inspect(context: &Context, targets: &[String]) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let mut is_first = true;
    for_each_target(context, targets, async |target| {
        let (record, usage) = record_and_usage(&client, target).await?;
        if context.json {
            let object = match &usage {
                Some(Ok(usage)) => json::ExecutionObject::with_usage(&record, usage),
                _ => json::ExecutionObject::from_record(&record),
            };
            return print(&json::line(&object));
        }
        let separator = if is_first { "" } else { "\n" };
        is_first = false;
        print(&format!(
            "{separator}{}",
            text::inspect(
                &record,
                usage.as_ref(),
                &context.view(),
                is_log_closed(&record)
            )
        ))
    })
    .await
}

/// Returns the record, and if the execution runs, what it uses at the moment, or why that is not known.
async fn record_and_usage(
    client: &Client,
    target: &str,
) -> Result<(ExecutionRecord, Option<Result<CurrentUsage, ApiError>>), Error> {
    let record = client.get_status(target).await?;
    if record.status != Status::Running {
        return Ok((record, None));
    }
    match client.measure_usage(record.id).await {
        Ok(usage) => Ok((record, Some(Ok(usage)))),
        // It has ended meanwhile.
        Err(Error::Api(error)) if error.code == ErrorCode::NOT_RUNNING => {
            Ok((client.get_status(record.id).await?, None))
        }
        Err(Error::Api(error)) => Ok((record, Some(Err(error)))),
        Err(error) => Err(error),
    }
}

/// Returns whether this user may not read the log, if there is one: the file system has no access
/// control lists, or the directory is closed.
fn is_log_closed(record: &ExecutionRecord) -> bool {
    let path = OsStr::from_bytes(&record.log_path);
    access(path, AccessFlags::R_OK) == Err(Errno::EACCES)
}
