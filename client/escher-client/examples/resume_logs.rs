//! Reads a log in two parts: the second continues where the first stopped, without gap or repeat.
//!
//! A client does this by itself when it reconnects. With a stored offset, another client can continue
//! at any later time.
//!
//! `cargo run --example resume_logs -- /run/escher/escherd.sock ID`

use std::error::Error;
use std::io::Write;

use escher_client::{Client, OutputItem, OutputRange};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().ok_or("the first argument is the socket")?;
    let id = arguments.next().ok_or("the second argument is an id")?;

    let mut offset = 0;
    let first = OutputRange {
        length: Some(1_000),
        ..OutputRange::default()
    };
    // Each part has its own client, like another program.
    for range in [Some(first), None] {
        let client = Client::connect(&socket).await?;
        let range = range.unwrap_or(OutputRange::from_offset(offset));
        let mut output = client.read_logs(id.as_str(), range).await?;
        while let Some(item) = output.next().await {
            match item? {
                OutputItem::Chunk(chunk) => {
                    offset = chunk.offset + chunk.data.len() as u64;
                    std::io::stdout().write_all(&chunk.data)?;
                }
                OutputItem::Gap(gap) => {
                    offset = gap.end();
                    writeln!(std::io::stderr(), "output is missing: {gap:?}")?;
                }
            }
        }
    }
    Ok(())
}
