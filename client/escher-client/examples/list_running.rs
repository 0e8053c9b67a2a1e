//! Lists pending and running executions.
//!
//! `cargo run --example list_running -- /run/escher/escherd.sock`

use std::error::Error;
use std::io::Write;

use escher_client::{Client, ListFilter};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os()
        .nth(1)
        .ok_or("the argument is the socket")?;
    let client = Client::connect(socket).await?;
    let mut executions = client.list_executions(ListFilter::default()).await?;
    while let Some(record) = executions.next().await {
        let record = record?;
        // `{:?}` escapes control characters in the command.
        let (number, status, command) = (record.number, record.status, record.command.to_argv());
        writeln!(std::io::stdout(), "{number:6} {status:10} {command:?}")?;
    }
    Ok(())
}
