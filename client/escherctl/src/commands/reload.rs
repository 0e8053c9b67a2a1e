//! `reload`: has escherd read its configuration again.

use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn reload(context: &Context) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let reloaded = client.reload().await?;
    print(&if context.json {
        json::reloaded(&reloaded)
    } else {
        text::reloaded(&reloaded)
    })?;
    Ok(0)
}
