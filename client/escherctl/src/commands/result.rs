//! `result`: the output of a finished execution, as far as escherd keeps it for results.

use std::io;

use crate::Context;
use crate::descriptor::{direct, write_all};
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn result(context: &Context, target: &str) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let result = client.get_result(target).await?;
    if context.json {
        print(&json::line(&json::Execution::of_result(result)))?;
        return Ok(0);
    }
    let mut stdout = direct(io::stdout()).map_err(Failure::write)?;
    let mut stderr = direct(io::stderr()).map_err(Failure::write)?;
    write_all(&mut stdout, &result.stdout).map_err(Failure::write)?;
    write_all(&mut stderr, &result.stderr).map_err(Failure::write)?;
    if result.is_cut() && !context.quiet {
        context.say(&format!(
            "the output was cut; `escherctl logs {}` shows all of it",
            result.record.id
        ));
    }
    Ok(0)
}
