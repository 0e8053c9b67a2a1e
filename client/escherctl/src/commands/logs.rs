//! `logs`: output from the log.

use escher_client::{
    Client, Error, OutputChunk, OutputRange, OutputStart, OutputStream, StreamSelection, Timestamp,
};

use crate::Context;
use crate::args::LogsArgs;
use crate::failure::Failure;
use crate::relay::{Piece, as_it_is, relay};
use crate::render::json;
use crate::render::lines::Stamper;

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
        let mut stamper = None;
        relay(output, async |chunk| {
            if stamper.is_none() {
                stamper = Some(Stamper::new(start_time(&client, target).await?));
            }
            Ok(Piece {
                stream: chunk.stream,
                bytes: stamper
                    .as_mut()
                    .map_or_else(Vec::new, |stamper| stamper.stamp(&chunk)),
            })
        })
        .await?;
    } else {
        relay(output, as_it_is).await?;
    }
    Ok(0)
}

/// When the command was started. Asked for with its first output in hand, so that it has been.
async fn start_time(client: &Client, target: &str) -> Result<Timestamp, Error> {
    let record = client.get_status(target).await?;
    Ok(record.started_at.unwrap_or(record.submitted_at))
}

async fn as_json(chunk: OutputChunk) -> Result<Piece, Error> {
    Ok(Piece {
        stream: OutputStream::Stdout,
        bytes: json::chunk(chunk).into_bytes(),
    })
}
