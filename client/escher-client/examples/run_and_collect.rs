//! Runs a command and prints its output.
//!
//! `cargo run --example run_and_collect -- /run/escher/escherd.sock uname -a`

use std::error::Error;
use std::io::Write;

use escher_client::{Client, Command, ExecutionRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let socket = arguments.next().ok_or("the first argument is the socket")?;
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: arguments.map(Into::into).collect(),
        },
        ..ExecutionRequest::default()
    };

    let client = Client::connect(socket).await?;
    let submitted = client.execute(request).await?;
    let result = client.get_result(submitted.id).await?;

    std::io::stdout().write_all(&result.stdout)?;
    std::io::stderr().write_all(&result.stderr)?;
    writeln!(std::io::stdout(), "it is {}", result.record.status)?;
    Ok(())
}
