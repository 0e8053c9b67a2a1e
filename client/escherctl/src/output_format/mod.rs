//! How the output of an execution is written: as it is, with timestamps, or as JSON; with a prefix where there are
//! several.

mod json_objects;
mod line_prefix;
mod line_timestamps;

use escher_client::{Client, Error, ExecutionId, OutputItem, OutputStream};

use crate::context::{Context, notice_line};
use crate::render::text;
use crate::stdio::output::{OutputFormat, OutputPiece};
use json_objects::JsonObjects;
use line_prefix::LinePrefix;
use line_timestamps::LineTimestamps;

/// The format of the output of one execution.
pub(crate) struct ShownOutput {
    content: Content,
    /// Whether nothing is said about missing output.
    is_quiet: bool,
    prefix: Option<LinePrefix>,
}

enum Content {
    Unchanged,
    Timestamps {
        client: Client,
        id: ExecutionId,
        /// `None` until there is output.
        timestamps: Option<LineTimestamps>,
    },
    Json(JsonObjects),
}

impl ShownOutput {
    /// Output as it is.
    pub(crate) fn unchanged(context: &Context) -> Self {
        ShownOutput::new(context, Content::Unchanged)
    }

    /// Output of the execution `id`, each line of which begins with its time.
    pub(crate) fn with_timestamps(context: &Context, client: &Client, id: ExecutionId) -> Self {
        ShownOutput::new(
            context,
            Content::Timestamps {
                client: client.clone(),
                id,
                timestamps: None,
            },
        )
    }

    /// Output of the execution `id` as one JSON object for each piece.
    pub(crate) fn json(context: &Context, id: ExecutionId) -> Self {
        ShownOutput::new(context, Content::Json(JsonObjects::new(id)))
    }

    fn new(context: &Context, content: Content) -> Self {
        ShownOutput {
            content,
            is_quiet: context.quiet,
            prefix: None,
        }
    }

    /// Begins each line with `prefix`, so that lines of several executions can be told apart.
    pub(crate) fn prefixed(self, prefix: &str) -> Self {
        ShownOutput {
            prefix: Some(LinePrefix::new(prefix)),
            ..self
        }
    }

    async fn content(&mut self, item: OutputItem) -> Result<Vec<OutputPiece>, Error> {
        Ok(match (&mut self.content, item) {
            (Content::Json(objects), item) => {
                objects.add(item).into_iter().map(to_stdout).collect()
            }
            (_, OutputItem::Gap(_)) if self.is_quiet => Vec::new(),
            (_, OutputItem::Gap(gap)) => vec![OutputPiece {
                stream: OutputStream::Stderr,
                bytes: notice_line(&text::missing_output(&gap)).into_bytes(),
            }],
            (Content::Unchanged, OutputItem::Chunk(chunk)) => vec![OutputPiece {
                stream: chunk.stream,
                bytes: chunk.data.into_vec(),
            }],
            (
                Content::Timestamps {
                    client,
                    id,
                    timestamps,
                },
                OutputItem::Chunk(chunk),
            ) => {
                if timestamps.is_none() {
                    // A command with output has been started, so its record has that time.
                    let record = client.get_status(*id).await?;
                    let start = record.started_at.unwrap_or(record.submitted_at);
                    *timestamps = Some(LineTimestamps::new(start));
                }
                vec![OutputPiece {
                    stream: chunk.stream,
                    bytes: timestamps
                        .as_mut()
                        .map_or_else(Vec::new, |timestamps| timestamps.insert(&chunk)),
                }]
            }
        })
    }
}

impl OutputFormat for ShownOutput {
    async fn format(&mut self, item: OutputItem) -> Result<Vec<OutputPiece>, Error> {
        let pieces = self.content(item).await?;
        Ok(match &mut self.prefix {
            None => pieces,
            Some(prefix) => pieces.iter().map(|piece| prefix.add_to(piece)).collect(),
        })
    }

    fn finish(&mut self) -> Vec<OutputPiece> {
        match (&mut self.content, &mut self.prefix) {
            (Content::Json(objects), _) => objects.finish().into_iter().map(to_stdout).collect(),
            (_, Some(prefix)) => prefix.finish(),
            (_, None) => Vec::new(),
        }
    }
}

fn to_stdout(line: String) -> OutputPiece {
    OutputPiece {
        stream: OutputStream::Stdout,
        bytes: line.into_bytes(),
    }
}
