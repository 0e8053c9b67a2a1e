//! Assembles the result of an execution from its stream.

use std::future::poll_fn;
use std::sync::Arc;

use escher_protocol::{ExecutionResult, Item, Request, Target};

use crate::connection::ItemReceiver;
use crate::error::Error;
use crate::reconnecting_transport::{OpenStream, ReconnectingTransport};
use crate::response::{ensure_understood, item_type};

/// Returns the result of `target`. After a connection loss it is requested again from the beginning.
pub(crate) async fn fetch_result(
    transport: &Arc<ReconnectingTransport>,
    target: Target,
) -> Result<ExecutionResult, Error> {
    let request = Request::Result(target);
    let mut stream = transport.open_stream(request.clone()).await?;
    loop {
        let OpenStream { items, connection } = stream;
        match collect(items).await {
            Err(error) if error.is_connection_loss() => {
                stream = transport
                    .resume_stream(&connection, error, request.clone())
                    .await?;
            }
            collected => return collected,
        }
    }
}

async fn collect(mut items: ItemReceiver) -> Result<ExecutionResult, Error> {
    let mut result = None;
    while let Some(item) = poll_fn(|cx| items.poll_next(cx)).await {
        match (item?, &mut result) {
            (Item::Execution(record), None) => {
                result = Some(ExecutionResult::new(ensure_understood(*record)?));
            }
            (Item::Output(chunk), Some(result)) => result.push(&chunk),
            (Item::Omitted(omission), Some(result)) => result.omit(omission),
            (Item::Gap(gap), Some(result)) => result.gaps.push(gap),
            (other, _) => return Err(Error::unexpected_response("a result", item_type(&other))),
        }
    }
    result.ok_or(Error::unexpected_response("a result", "nothing"))
}
