//! Prints start, output and end of every execution that starts from now on, until interrupted.
//!
//! `cargo run --example handle_events -- /run/escher/escherd.sock`

use std::error::Error;
use std::io::Write;

use escher_client::{Client, ExecutionEvent};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os()
        .nth(1)
        .ok_or("the argument is the socket")?;
    let client = Client::connect(socket).await?;
    let (sender, mut received) = mpsc::unbounded_channel();
    // A handler must not block, and writing to standard output may.
    let handler = client
        .add_event_handler(move |event| drop(sender.send(event)))
        .await?;
    loop {
        tokio::select! {
            Some(event) = received.recv() => writeln!(std::io::stdout(), "{}", describe(event))?,
            failure = handler.failure() => return Err(failure.into()),
        }
    }
}

fn describe(event: ExecutionEvent) -> String {
    match event {
        ExecutionEvent::Started { id, .. } => format!("{id}: started"),
        ExecutionEvent::Stdout { id, data } => format!("{id}: stdout {data:?}"),
        ExecutionEvent::Stderr { id, data } => format!("{id}: stderr {data:?}"),
        ExecutionEvent::OutputMissing { id, gap } => format!("{id}: output is missing: {gap:?}"),
        ExecutionEvent::Completed(record)
        | ExecutionEvent::Failed(record)
        | ExecutionEvent::Cancelled(record)
        | ExecutionEvent::Timeout(record)
        | ExecutionEvent::Lost(record) => format!("{}: {}", record.id, record.status),
    }
}
