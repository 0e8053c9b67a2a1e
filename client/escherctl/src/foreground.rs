//! Seeing one command through to its end.

use escher_client::protocol::ErrorCode;
use escher_client::{CancelMode, Client, Error, ExecutionId, ExecutionRecord, OutputRange};
use tokio::task::JoinSet;

use super::Context;
use super::exit_status::{of_record, of_signal};
use super::failure::Failure;
use super::relay::{RelayError, as_it_is, relay};
use super::render::{json, print, text};
use super::signals::Interrupts;

/// What becomes of a command whose output nobody takes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfUnread {
    /// It is cancelled, as a closed pipe would end it.
    Cancel,
    /// It goes on.
    Leave,
}

/// Passes on a command's output from the first byte to the last and returns its record.
async fn watch(
    client: &Client,
    id: ExecutionId,
    if_unread: IfUnread,
) -> Result<ExecutionRecord, Failure> {
    let output = client.follow(id, OutputRange::default()).await?;
    let passing = async {
        match relay(output, as_it_is).await {
            Ok(()) => Ok(None),
            Err(RelayError::Write(error)) if if_unread == IfUnread::Cancel => {
                // Refused only when it has ended, and then there is nothing left to cancel.
                let _ = client.cancel(id, CancelMode::Graceful).await;
                Ok(Some(Failure::write(error)))
            }
            // The log cannot be read, but the command goes on and its end is still to be seen.
            Err(RelayError::Read(error @ Error::Api(_))) => Ok(Some(Failure::from(error))),
            Err(error) => Err(Failure::from(error)),
        }
    };
    let ending = async { client.wait_for_completion(id).await.map_err(Failure::from) };
    match tokio::try_join!(passing, ending)? {
        (None, record) => Ok(record),
        (Some(failure), _) => Err(failure),
    }
}

/// How work under a person's eyes ended.
pub(crate) enum Overseen<T> {
    /// By itself.
    Done(T),
    /// By a third signal; this is the exit status.
    Left(u8),
}

/// Does `work` for a command, and hears signals meanwhile: the first cancels the command, the second
/// kills it, the third leaves without waiting for the end. `heard` have come before.
pub(crate) async fn oversee<T>(
    context: &Context,
    client: &Client,
    id: ExecutionId,
    interrupts: &mut Interrupts,
    heard: u32,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Overseen<T>, Failure> {
    let mut work = std::pin::pin!(work);
    let mut cancels = JoinSet::new();
    let cancel = |cancels: &mut JoinSet<_>, mode| {
        let client = client.clone();
        cancels.spawn(async move { client.cancel(id, mode).await });
    };
    let mut heard = heard;
    if heard > 0 {
        cancel(&mut cancels, CancelMode::Graceful);
    }
    loop {
        tokio::select! {
            done = &mut work => return done.map(Overseen::Done),
            signal = interrupts.next() => {
                heard += 1;
                match heard {
                    1 => cancel(&mut cancels, CancelMode::Graceful),
                    2 => cancel(&mut cancels, CancelMode::Kill),
                    _ => return Ok(Overseen::Left(of_signal(signal))),
                }
            }
            Some(Ok(Err(error))) = cancels.join_next() => {
                if let Error::Api(error) = error && error.code != ErrorCode::NOT_FOUND {
                    context.say(&format!("cannot cancel it: {}", error.message));
                }
            }
        }
    }
}

/// Shows a command's output, or at its end all there is to know as JSON; the exit status.
pub(crate) async fn see(
    context: &Context,
    client: &Client,
    id: ExecutionId,
    if_unread: IfUnread,
) -> Result<u8, Failure> {
    if context.json {
        let result = client.get_result(id).await?;
        let status = of_record(&result.record);
        print(&json::line(&json::Execution::of_result(result)))?;
        return Ok(status);
    }
    let record = watch(client, id, if_unread).await?;
    if let Some(lacking) = text::lacking(&record)
        && !context.quiet
    {
        context.say(&lacking);
    }
    tell_verdict(context, &record);
    Ok(of_record(&record))
}

/// Tells how escher ended a command, where it did.
pub(crate) fn tell_verdict(context: &Context, record: &ExecutionRecord) {
    if context.quiet || context.json {
        return;
    }
    if let Some(verdict) = text::verdict(record) {
        context.say(&verdict);
    }
}
