//! Writes a command's standard input and prints its output.
//!
//! `cargo run --example feed_stdin -- /run/escher/escherd.sock`

use std::error::Error;
use std::io::Write;

use escher_client::{Client, Command, ExecutionRequest, StdinMode};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os()
        .nth(1)
        .ok_or("the argument is the socket")?;
    let client = Client::connect(socket).await?;
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: vec!["sort".into(), "-n".into()],
        },
        stdin: StdinMode::Stream,
        ..ExecutionRequest::default()
    };
    let submitted = client.execute(request).await?;

    let mut stdin = client.stdin(submitted.id);
    for number in (0..10).rev() {
        stdin.write(format!("{number}\n").as_bytes()).await?;
    }
    stdin.finish().await?;

    let result = client.get_result(submitted.id).await?;
    std::io::stdout().write_all(&result.stdout)?;
    Ok(())
}
