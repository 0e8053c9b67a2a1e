//! `metrics`: what escherd counts.

use crate::Context;
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn metrics(context: &Context) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let text = client.metrics().await?;
    // The text is for programs that know its format; escherd makes it of its own words alone.
    print(&if context.json {
        json::metrics(&text)
    } else {
        text
    })?;
    Ok(0)
}
