//! Whom to ask for a list.

use escher_client::protocol::handshake::FEATURE_HISTORY;
use escher_client::{Client, Error, ExecutionStream, Selection};

/// The executions that fit. Finished ones and times are asked of the history, where escherd has one.
pub(super) async fn ask(client: &Client, selection: Selection) -> Result<ExecutionStream, Error> {
    let by_time = selection.since.is_some() || selection.until.is_some();
    let welcome = client.welcome();
    let has_history = welcome.features.iter().any(|has| &**has == FEATURE_HISTORY);
    if by_time || (selection.filter.all && has_history) {
        client.find(selection).await
    } else {
        client.list_executions(selection.filter).await
    }
}
