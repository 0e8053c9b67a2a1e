//! `metrics`: shows the metrics of escherd.

use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn metrics(context: &Context) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let text = client.metrics().await?;
    // Not escaped: escherd makes the text, and no user chooses a part of it.
    print(&if context.json {
        json::metrics(&text)
    } else {
        text
    })?;
    Ok(0)
}
