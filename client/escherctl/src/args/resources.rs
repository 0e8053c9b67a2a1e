//! What an execution may use and has used, where that can be asked for.

use escher_client::protocol::handshake::FEATURE_RESOURCES;
use escher_client::{Client, Error, ErrorCode, ExecutionRecord, Resources};

use crate::failure::Failure;

/// What belongs to `record`; `None` if escherd is too old to be asked, or has forgotten the execution since.
pub(crate) async fn of(
    client: &Client,
    record: &ExecutionRecord,
) -> Result<Option<Resources>, Failure> {
    let welcome = client.welcome();
    if !welcome
        .features
        .iter()
        .any(|has| &**has == FEATURE_RESOURCES)
    {
        return Ok(None);
    }
    match client.resources(record.id).await {
        Ok(resources) => Ok(Some(resources)),
        Err(Error::Api(error)) if error.code == ErrorCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error.into()),
    }
}
