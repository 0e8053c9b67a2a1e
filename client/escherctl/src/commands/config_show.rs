//! `config show`: shows the settings in force.

use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, table};

pub(super) async fn show(context: &Context) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let settings = client.settings().await?;
    print(&if context.json {
        settings.iter().map(json::setting).collect()
    } else {
        table::settings(&settings)
    })?;
    Ok(0)
}
