//! `inspect`: shows the details of executions.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use escher_client::{ExecutionRecord, Timestamp};
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
        let record = client.get_status(target).await?;
        if context.json {
            return print(&json::line(&json::ExecutionObject::from_record(&record)));
        }
        let separator = if is_first { "" } else { "\n" };
        is_first = false;
        print(&format!(
            "{separator}{}",
            text::inspect(&record, Timestamp::now(), is_log_closed(&record))
        ))
    })
    .await
}

/// Returns whether this user may not read the log, if there is one: the file system has no access
/// control lists, or the directory is closed.
fn is_log_closed(record: &ExecutionRecord) -> bool {
    let path = OsStr::from_bytes(&record.log_path);
    access(path, AccessFlags::R_OK) == Err(Errno::EACCES)
}
