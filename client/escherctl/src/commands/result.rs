//! `result`: waits for an execution and shows its output, up to the output limit.

use std::io;

use crate::context::{Context, print_notice};
use crate::failure::Failure;
use crate::render::{json, print};
use crate::stdio::unbuffered::write_all;

pub(super) async fn result(context: &Context, target: &str) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let result = client.get_result(target).await?;
    if context.json {
        print(&json::line(&json::ExecutionObject::from_result(result)))?;
        return Ok(0);
    }
    write_all(io::stdout(), &result.stdout).map_err(Failure::write)?;
    write_all(io::stderr(), &result.stderr).map_err(Failure::write)?;
    if result.is_cut() && !context.quiet {
        print_notice(&format!(
            "output truncated; `escherctl logs {}` shows all of it",
            result.record.id
        ));
    }
    Ok(0)
}
