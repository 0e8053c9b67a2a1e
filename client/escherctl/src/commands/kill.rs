//! `kill`: a signal to main processes.

use super::to_each;
use crate::Context;
use crate::args::values::SignalNumber;
use crate::failure::Failure;
use crate::render::{json, print};

pub(super) async fn kill(
    context: &Context,
    SignalNumber(signal): SignalNumber,
    targets: &[String],
) -> Result<u8, Failure> {
    let client = context.connect().await?;
    to_each(context, targets, async |target| {
        client.signal(target, signal).await?;
        if context.json {
            print(&json::signalled(target, signal))?;
        }
        Ok(())
    })
    .await
}
