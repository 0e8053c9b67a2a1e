//! `submit`, and `run -d`: a command on its way.

use escher_client::StdinMode;

use crate::Context;
use crate::args::RequestArgs;
use crate::args::request;
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn submit(context: &Context, args: RequestArgs) -> Result<u8, Failure> {
    let has_key = args.key.is_some();
    let request = request::make(args, StdinMode::Null)?;
    let key = request.key.clone().unwrap_or_default();
    let client = context.connect().await?;
    let submitted = client
        .execute(request)
        .await
        .map_err(|error| Failure::from(error).in_doubt(&key))?;
    if context.json {
        let record = client.get_status(submitted.id).await?;
        // A key of escherctl's own is known only from asking again after a lost connection.
        let existing = submitted.existing && has_key;
        let submission = json::Execution::of_submission(&record, existing);
        print(&json::line(&submission))?;
    } else {
        print(&format!("{}\n", submitted.id))?;
    }
    Ok(0)
}
