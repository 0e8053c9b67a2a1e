//! `result`: waits for an execution and shows its output, up to the output limit.

use std::io;

use crate::context::{Context, print_notice};
use crate::failure::Failure;
use crate::render::{json, print, text};
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
    if context.quiet {
        return Ok(0);
    }
    for gap in &result.gaps {
        print_notice(&text::missing_output(gap));
    }
    if result.output_file().is_some() {
        let what = if result.gaps.is_empty() {
            "all of it"
        } else {
            "what the log has"
        };
        print_notice(&format!(
            "output truncated; `escherctl logs {}` shows {what}",
            result.record.id
        ));
    }
    Ok(0)
}
