//! Says on a terminal what a command waits for that does not start.

use std::pin::pin;
use std::time::Duration;

use escher_client::{Client, ExecutionId};
use tokio::time::sleep;

use crate::context::{Context, print_numbered};
use crate::render::text;

/// Time after which a person wonders why nothing happens.
const NOTICE_AFTER: Duration = Duration::from_secs(1);

/// Awaits `end`. If the execution has not started after a while, prints its number and what it waits for: on a
/// terminal, unless notices are suppressed.
pub(crate) async fn with_wait_notice<T>(
    context: &Context,
    client: &Client,
    id: ExecutionId,
    end: impl Future<Output = T>,
) -> T {
    let mut end = pin!(end);
    if context.is_interactive() {
        tokio::select! {
            ended = &mut end => return ended,
            () = print_wait_reason(client, id) => {}
        }
    }
    end.await
}

async fn print_wait_reason(client: &Client, id: ExecutionId) {
    sleep(NOTICE_AFTER).await;
    // Whatever prevents an answer is reported by those who wait for the end.
    if let Ok(record) = client.get_status(id).await
        && let Some(reason) = record.waits_for
    {
        let reason = text::wait_reason(reason);
        print_numbered(record.number, &format!("waiting: {reason}"));
    }
}
