//! `info`: what escherd is doing, and its limits.

use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::render::{json, print, text};

pub(super) async fn info(context: &Context) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let info = client.info().await?;
    print(&if context.json {
        json::info(&info, client.welcome())
    } else {
        text::info(&info, client.welcome())
    })?;
    Ok(0)
}
