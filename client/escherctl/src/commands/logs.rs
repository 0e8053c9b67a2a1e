//! `logs`: shows output from the log.

use escher_client::{
    Client, Error, OutputItem, OutputRange, OutputStart, OutputStream, StreamSelection, Timestamp,
};

use crate::args::verbs::LogsArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::json;
use crate::render::line_timestamps::LineTimestamps;
use crate::stdio::output::{OutputPiece, relay};

pub(super) async fn logs(context: &Context, args: LogsArgs) -> Result<u8, Failure> {
    let client = context.connect().await?;
    let target = args.target.target.as_str();
    let range = OutputRange {
        streams: match (args.stdout, args.stderr) {
            (true, _) => StreamSelection::Only(OutputStream::Stdout),
            (_, true) => StreamSelection::Only(OutputStream::Stderr),
            _ => StreamSelection::Both,
        },
        start: args
            .lines
            .map_or(OutputStart::Offset(0), OutputStart::LastLines),
        length: None,
    };
    let output = if args.follow {
        client.follow(target, range).await?
    } else {
        client.read_logs(target, range).await?
    };
    if context.json {
        relay(output, as_json).await?;
    } else if args.timestamps {
        let mut timestamps = None;
        relay(output, async |item| {
            let OutputItem::Chunk(chunk) = item else {
                return Ok(context.as_shown(item));
            };
            if timestamps.is_none() {
                timestamps = Some(LineTimestamps::new(start_time(&client, target).await?));
            }
            Ok(OutputPiece {
                stream: chunk.stream,
                bytes: timestamps
                    .as_mut()
                    .map_or_else(Vec::new, |timestamps| timestamps.insert(&chunk)),
            })
        })
        .await?;
    } else {
        relay(output, async |item| Ok(context.as_shown(item))).await?;
    }
    Ok(0)
}

/// Returns the time at which the command was started. A command with output has been started, so its
/// record has that time.
async fn start_time(client: &Client, target: &str) -> Result<Timestamp, Error> {
    let record = client.get_status(target).await?;
    Ok(record.started_at.unwrap_or(record.submitted_at))
}

async fn as_json(item: OutputItem) -> Result<OutputPiece, Error> {
    let line = match item {
        OutputItem::Chunk(chunk) => json::output_chunk(chunk),
        OutputItem::Gap(gap) => json::output_gap(&gap),
    };
    Ok(OutputPiece {
        stream: OutputStream::Stdout,
        bytes: line.into_bytes(),
    })
}
