//! `cancel`: ends executions, gracefully at first.

use escher_client::CancelMode;

use super::selected::{Selectable, selected};
use super::targets::for_each_target;
use crate::args::verbs::CancelArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn cancel(context: &Context, args: &CancelArgs) -> Result<u8, Failure> {
    let mode = match (args.now, args.signal) {
        (true, _) => CancelMode::Kill,
        (false, Some(signal)) => CancelMode::Signal(signal.0),
        (false, None) => CancelMode::Graceful,
    };
    let client = context.connect().await?;
    let targets = selected(context, &client, &args.targets, Selectable::Unfinished).await?;
    for_each_target(context, &targets, async |target| {
        let answer = client.cancel(target, mode).await?;
        print(&if context.json {
            json::cancelled(target, answer)
        } else {
            text::cancelled(target, answer)
        })
    })
    .await
}
