//! `info`: shows the state and the limits of escherd.

use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn info(context: &Context) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let info = client.info().await?;
    let (socket, welcome) = (client.socket(), client.welcome());
    print(&if context.json {
        json::info(&info, &welcome.daemon, welcome.version, socket.path())
    } else {
        text::info(&info, &welcome, socket, &context.view())
    })?;
    Ok(0)
}
