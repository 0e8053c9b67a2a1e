//! `submit` and `run -d`: submit a command without waiting for it.

use crate::args::request::{Input, RequestArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn submit(
    context: &Context,
    is_interactive: bool,
    args: RequestArgs,
) -> Result<u8, Failure> {
    let has_key = args.key.is_some();
    let request = args.into_request(Input::open(is_interactive))?;
    let key = request.key.clone().unwrap_or_default();
    let client = context.connect().await?;
    let submitted = client
        .execute(request)
        .await
        .map_err(|error| Failure::from(error).while_submitting(&key))?;
    if context.json {
        let record = client.get_status(submitted.id).await?;
        // With a generated key, an execution can exist already only because this request was repeated
        // after a lost connection. So it is this command's own.
        let is_existing = submitted.existing && has_key;
        let execution = json::ExecutionObject::from_submission(&record, is_existing);
        print(&json::line(&execution))?;
    } else {
        print(&format!("{}\n", submitted.id))?;
    }
    Ok(0)
}
