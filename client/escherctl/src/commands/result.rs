//! `result`: waits for an execution and shows its output, up to the output limit.

use std::io;

use escher_client::{Client, OutputStream, ResultItem};

use crate::context::{Context, print_notice};
use crate::failure::Failure;
use crate::render::{json, print, text};
use crate::stdio::unbuffered::write_all;

pub(super) async fn result(context: &Context, target: &str) -> Result<u8, Failure> {
    let client = context.connect().await?;
    if context.json {
        // One object, which is as long as the output limit lets it be.
        let result = client.get_result(target).await?;
        print(&json::line(&json::ExecutionObject::from_result(result)))?;
    } else {
        show(context, &client, target).await?;
    }
    Ok(0)
}

/// Shows the output as it comes, and at the end what it lacks.
async fn show(context: &Context, client: &Client, target: &str) -> Result<(), Failure> {
    let mut result = client.read_result(target).await?;
    let (mut is_truncated, mut gaps) = (false, Vec::new());
    while let Some(item) = result.next().await? {
        match item {
            ResultItem::Output(chunk) => write(chunk.stream, &chunk.data)?,
            ResultItem::Omitted(omission) => {
                is_truncated = true;
                write(omission.stream, omission.mark.as_bytes())?;
            }
            ResultItem::Gap(gap) => gaps.push(gap),
        }
    }
    if context.quiet {
        return Ok(());
    }
    for gap in &gaps {
        print_notice(&text::missing_output(gap));
    }
    if is_truncated {
        let what = if gaps.is_empty() {
            "all of it"
        } else {
            "what the log has"
        };
        print_notice(&format!(
            "output truncated; `escherctl logs {}` shows {what}",
            result.record().id
        ));
    }
    Ok(())
}

fn write(stream: OutputStream, bytes: &[u8]) -> Result<(), Failure> {
    match stream {
        OutputStream::Stdout => write_all(io::stdout(), bytes),
        OutputStream::Stderr => write_all(io::stderr(), bytes),
    }
    .map_err(Failure::write)
}
