//! Waits one second for a command, then cancels it.
//!
//! `cargo run --example cancel_slow -- /run/escher/escherd.sock`

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use escher_client::{CancelMode, Client, Command, ExecutionRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os()
        .nth(1)
        .ok_or("the argument is the socket")?;
    let client = Client::connect(socket).await?;
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: vec!["sleep".into(), "60".into()],
        },
        ..ExecutionRequest::default()
    };
    let submitted = client.execute(request).await?;

    let patience = Duration::from_secs(1);
    let completion = client.wait_for_completion(submitted.id);
    let record = match tokio::time::timeout(patience, completion).await {
        Ok(record) => record?,
        // Dropping the future has no effect on the command.
        Err(_) => {
            client.cancel(submitted.id, CancelMode::Graceful).await?;
            client.wait_for_completion(submitted.id).await?
        }
    };
    writeln!(std::io::stdout(), "it is {}", record.status)?;
    Ok(())
}
