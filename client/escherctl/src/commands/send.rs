//! `send`: writes to the standard input of an execution.

use escher_client::{ApiError, Error, ErrorCode};

use crate::args::verbs::SendArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{json, print};
use crate::stdio::input::feed;

pub(super) async fn send(context: &Context, args: SendArgs) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let target = args.target.target;
    let mut hold = client.hold_stdin(target.as_str()).await?;
    let mut writer = hold.writer();
    tokio::select! {
        fed = feed(&mut writer) => fed?,
        over = hold.over() => {
            over?;
            return Err(closed());
        }
    }
    let length = if args.end {
        // The hold goes on until the end has arrived, over lost connections too.
        let (length, _) = tokio::join!(writer.finish(), hold.over());
        length?
    } else {
        tokio::select! {
            flushed = writer.flush() => flushed?,
            _ = hold.over() => return Err(closed()),
        }
        writer.offset()
    };
    if context.json {
        print(&json::sent(&target, length))?;
    }
    Ok(0)
}

fn closed() -> Failure {
    let message = "the command has closed its standard input";
    Error::Api(ApiError::new(ErrorCode::STDIN_CLOSED, message)).into()
}
