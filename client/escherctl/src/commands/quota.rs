//! `quota`: shows what users take of the queue, the slots and the history, and may take.

use crate::args::verbs::QuotaArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, table};

pub(super) async fn quota(context: &Context, args: QuotaArgs) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let quotas = client.quota(args.user.map(|user| user.0)).await?;
    print(&if context.json {
        quotas.iter().map(json::quota).collect()
    } else {
        table::quotas(&quotas)
    })?;
    Ok(0)
}
