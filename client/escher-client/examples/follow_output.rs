//! Prints a command's output while it runs, with the offset of each chunk in the log.
//!
//! `cargo run --example follow_output -- /run/escher/escherd.sock`

use std::error::Error;
use std::io::Write;

use escher_client::{Client, Command, ExecutionRequest, OutputItem, OutputRange};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os()
        .nth(1)
        .ok_or("the argument is the socket")?;
    let client = Client::connect(socket).await?;
    let request = ExecutionRequest {
        command: Command::Shell {
            text: "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 1; done".into(),
            shell: None,
        },
        ..ExecutionRequest::default()
    };
    let submitted = client.execute(request).await?;

    let mut output = client.follow(submitted.id, OutputRange::default()).await?;
    while let Some(item) = output.next().await {
        let chunk = match item? {
            OutputItem::Chunk(chunk) => chunk,
            OutputItem::Gap(gap) => {
                writeln!(std::io::stdout(), "output is missing: {gap:?}")?;
                continue;
            }
        };
        let (stream, text) = (chunk.stream.name(), chunk.data.to_string_lossy());
        writeln!(
            std::io::stdout(),
            "{stream} at {}, {} µs: {text:?}",
            chunk.offset,
            chunk.time_us
        )?;
    }
    Ok(())
}
