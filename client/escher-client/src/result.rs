//! Putting a result together.

use std::future::poll_fn;
use std::sync::Arc;

use escher_protocol::handshake::FEATURE_SETTINGS;
use escher_protocol::{ExecutionResult, Item, Omission, OutputStream, Request, Target, Text};

use crate::connection::{Connection, ItemReceiver};
use crate::error::Error;
use crate::response::item_type;
use crate::session::Session;

/// The result of `target`. After a lost connection it comes from the beginning: it is one value, if a long
/// one.
pub(crate) async fn fetch(
    session: &Arc<Session>,
    target: &Target,
) -> Result<ExecutionResult, Error> {
    let mut connection = session.connection().await?;
    loop {
        match fetch_over(&connection, target).await {
            Err(error) if error.is_connection_loss() => {
                connection = session.next_connection(&connection, error).await?
            }
            fetched => return fetched,
        }
    }
}

async fn fetch_over(
    connection: &Arc<Connection>,
    target: &Target,
) -> Result<ExecutionResult, Error> {
    if connection.offers(FEATURE_SETTINGS) {
        let request = Request::Collect(target.clone());
        return collect(connection.stream(request).await?).await;
    }
    let request = Request::Result(target.clone());
    let mut result = collect(connection.stream(request).await?).await?;
    note_what_is_missing(&mut result);
    Ok(result)
}

async fn collect(mut items: ItemReceiver) -> Result<ExecutionResult, Error> {
    let mut result = None;
    while let Some(item) = poll_fn(|cx| items.poll_next(cx)).await {
        match (item?, &mut result) {
            (Item::Execution(record), None) => result = Some(ExecutionResult::new(*record)),
            (Item::Output(chunk), Some(result)) => result.push(&chunk),
            (Item::Omitted(omission), Some(result)) => result.omit(omission),
            (other, _) => return Err(Error::unexpected_response("a result", item_type(&other))),
        }
    }
    result.ok_or(Error::unexpected_response("a result", "nothing"))
}

/// An escherd that does not say what it has left out has put a mark into the text, and has counted what there
/// was.
fn note_what_is_missing(result: &mut ExecutionResult) {
    let Some(output) = result.record.outcome.as_ref().map(|outcome| outcome.output) else {
        return;
    };
    for (stream, written, carried) in [
        (
            OutputStream::Stdout,
            output.stdout_bytes,
            result.stdout.len(),
        ),
        (
            OutputStream::Stderr,
            output.stderr_bytes,
            result.stderr.len(),
        ),
    ] {
        let bytes = written.saturating_sub(carried as u64);
        if bytes > 0 {
            result.omit(Omission {
                stream,
                bytes,
                mark: Text::default(),
            });
        }
    }
}
