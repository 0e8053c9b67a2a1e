//! Follows one execution to its end, as `run` and `attach` do.

use std::io;

use escher_client::{CancelMode, Client, Error, ExecutionId, ExecutionRecord, OutputRange};

use crate::context::{Context, print_notice, print_numbered};
use crate::failure::Failure;
use crate::output_format::ShownOutput;
use crate::render::{json, print, text};
use crate::stdio::output::{Completeness, OutputWriter, RelayError};
use crate::wait_notice::with_wait_notice;

/// What happens to the command when the reader of standard output has closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnClosedOutput {
    /// The command is cancelled, as a closed pipe would end it.
    Cancel,
    /// The command continues.
    Detach,
}

/// Shows the output of an execution and how it ended: as JSON by an object for each piece, and one for the end.
/// Returns its record, and whether the log had all of the output.
pub(crate) async fn show_to_end(
    context: &Context,
    client: &Client,
    id: ExecutionId,
    on_closed_output: OnClosedOutput,
) -> Result<(ExecutionRecord, Completeness), Failure> {
    let end = relay_to_end(context, client, id, on_closed_output);
    let (record, completeness) = with_wait_notice(context, client, id, end).await?;
    if context.json {
        print(&json::line(&json::ExecutionObject::from_record(&record)))?;
    } else if context.is_interactive() {
        print_numbered(record.number, &text::summary(&record));
    } else {
        print_end_reason(context, &record);
    }
    Ok((record, completeness))
}

/// Prints why escher, not the command itself, ended the command, if it did.
pub(crate) fn print_end_reason(context: &Context, record: &ExecutionRecord) {
    if context.quiet || context.json {
        return;
    }
    if let Some(reason) = text::end_reason(record) {
        print_notice(&reason);
    }
}

/// Passes on the output of an execution from its first byte to its last. Returns its record, and
/// whether the log had all of the output.
async fn relay_to_end(
    context: &Context,
    client: &Client,
    id: ExecutionId,
    on_closed_output: OnClosedOutput,
) -> Result<(ExecutionRecord, Completeness), Failure> {
    let output = client.follow(id, OutputRange::default()).await?;
    let format = if context.json {
        ShownOutput::json(context, id)
    } else {
        ShownOutput::unchanged(context)
    };
    let relaying = async {
        let mut writer = OutputWriter::new(None);
        let relayed = match writer.relay(vec![(output, format)]).await {
            Ok(completeness) => writer.finish().await.map(|()| completeness),
            Err(error) => Err(error),
        };
        match relayed {
            Ok(completeness) => Ok(Ok(completeness)),
            Err(RelayError::Write(error))
                if on_closed_output == OnClosedOutput::Cancel
                    && error.kind() == io::ErrorKind::BrokenPipe =>
            {
                if let Err(Error::Api(error)) = client.cancel(id, CancelMode::Graceful).await {
                    print_notice(&format!("cannot cancel the command: {}", error.message));
                }
                Ok(Err(Failure::write(error)))
            }
            // The log cannot be read, but the command goes on: waits for its end before failing.
            Err(RelayError::Read(error @ Error::Api(_))) => Ok(Err(Failure::from(error))),
            Err(error) => Err(Failure::from(error)),
        }
    };
    let waiting = async { client.wait_for_completion(id).await.map_err(Failure::from) };
    let (relayed, record) = tokio::try_join!(relaying, waiting)?;
    Ok((record, relayed?))
}
