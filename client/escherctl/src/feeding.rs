//! Feeds the command of `run -i` and `attach -i` while its output is shown.

use escher_client::{Client, Error, ErrorCode, ExecutionId, OnStdinLost, StdinHold};

use crate::context::print_notice;
use crate::stdio::input::{FeedError, feed};

/// What to do when escherctl's own input cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnReadError {
    /// The command is cancelled, or its input ends, as was submitted.
    Lose(OnStdinLost),
    /// The input stays open for the next writer.
    GiveUp,
}

/// Feeds the command that was just submitted.
pub(crate) async fn feed_submitted(
    client: Client,
    id: ExecutionId,
    on_read_error: OnReadError,
    shows_notices: bool,
) {
    match client.hold_stdin(id).await {
        Ok(hold) => feed_command(client, id, hold, on_read_error, shows_notices).await,
        Err(error) => report(error),
    }
}

/// Feeds a command whose input is held, until either ends.
pub(crate) async fn feed_command(
    client: Client,
    id: ExecutionId,
    mut hold: StdinHold,
    on_read_error: OnReadError,
    shows_notices: bool,
) {
    let mut writer = hold.writer();
    let fed = tokio::select! {
        fed = feed(&mut writer) => fed,
        // The command has closed its input, which is no failure.
        over = hold.over() => return over.unwrap_or_else(report),
    };
    match (fed, on_read_error) {
        (Ok(()), _) => {}
        (Err(FeedError::Read(error)), on_read_error) => {
            if shows_notices {
                print_notice(&format!("cannot read standard input: {error}"));
            }
            match on_read_error {
                OnReadError::Lose(OnStdinLost::End) => {}
                OnReadError::Lose(OnStdinLost::Cancel) => {
                    let _ = client.lose_stdin(id).await;
                    return;
                }
                OnReadError::GiveUp => return,
            }
        }
        (Err(FeedError::Write(_)), _) => return,
    }
    // The hold goes on until the end has arrived, over lost connections too.
    let _ = tokio::join!(writer.finish(), hold.over());
}

/// Says why no more input is passed on, unless the command takes none. A lost connection is reported by
/// the request that waits for the command's end.
fn report(error: Error) {
    if let Error::Api(error) = error
        && error.code != ErrorCode::STDIN_CLOSED
    {
        print_notice(&format!("no more input is passed on: {}", error.message));
    }
}
