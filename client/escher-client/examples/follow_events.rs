//! Prints the events of all executions, across restarts of escherd, until interrupted.
//!
//! `cargo run --example follow_events -- /run/escher/escherd.sock`

use std::error::Error;
use std::io::Write;

use escher_client::{Client, EventKind, EventsRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os()
        .nth(1)
        .ok_or("the argument is the socket")?;
    let client = Client::connect(socket).await?;
    let request = EventsRequest {
        follow: true,
        ..EventsRequest::default()
    };
    let mut events = client.events(request).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        let what = match &event.kind {
            EventKind::Finished(status) => status.name(),
            kind => kind.name(),
        };
        writeln!(
            std::io::stdout(),
            "{}: number {} {what}",
            event.sequence,
            event.number
        )?;
    }
    Ok(())
}
