//! Putting a result together.

use std::future::poll_fn;
use std::sync::Arc;

use escher_protocol::{ExecutionResult, Item, Request, Target};

use crate::client::{understood, wrong_answer};
use crate::connection::{Connection, Inbox};
use crate::error::Error;
use crate::session::Session;
use crate::stream::kind;

/// The result of `target`. After a lost connection it comes from the beginning: it is one value, if a long
/// one.
pub(crate) async fn fetch(
    session: &Arc<Session>,
    target: &Target,
) -> Result<ExecutionResult, Error> {
    let mut connection = session.connection().await?;
    loop {
        match fetch_over(&connection, target).await {
            Err(error) if error.is_loss() => connection = session.after(&connection, error).await?,
            fetched => return fetched,
        }
    }
}

async fn fetch_over(
    connection: &Arc<Connection>,
    target: &Target,
) -> Result<ExecutionResult, Error> {
    let request = Request::Result(target.clone());
    collect(connection.stream(request).await?).await
}

async fn collect(mut inbox: Inbox) -> Result<ExecutionResult, Error> {
    let mut result = None;
    while let Some(item) = poll_fn(|cx| inbox.poll_next(cx)).await {
        match (item?, &mut result) {
            (Item::Execution(record), None) => {
                result = Some(ExecutionResult::new(understood(*record)?));
            }
            (Item::Output(chunk), Some(result)) => result.push(&chunk),
            (Item::Omitted(omission), Some(result)) => result.omit(omission),
            (other, _) => return Err(wrong_answer("a result", kind(&other))),
        }
    }
    result.ok_or(wrong_answer("a result", "nothing"))
}
