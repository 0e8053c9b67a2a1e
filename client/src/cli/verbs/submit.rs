//! `submit`, and `run -d`: a command on its way.

use escher_client::StdinMode;

use super::request;
use crate::cli::Context;
use crate::cli::args::RequestArgs;
use crate::cli::failure::Failure;
use crate::cli::render::{json, print};

pub(super) async fn submit(context: &Context, args: RequestArgs) -> Result<u8, Failure> {
    let request = request::make(args, StdinMode::Null)?;
    let client = context.connect().await?;
    let submitted = client.execute(request).await?;
    if context.json {
        let record = client.status(submitted.id).await?;
        let submission = json::Execution::of_submission(&record, submitted.existing);
        print(&json::line(&submission))?;
    } else {
        print(&format!("{}\n", submitted.id))?;
    }
    Ok(0)
}
