//! Output from the log.

use serde::Serialize;

use super::object::{line, text_or_base64};
use crate::{ExecutionId, GapReason, OutputChunk, OutputGap, OutputTotals};

/// Returns the object for a chunk of output.
pub fn output_chunk(id: ExecutionId, chunk: OutputChunk) -> String {
    #[derive(Serialize)]
    struct Line {
        id: String,
        stream: &'static str,
        offset: u64,
        time_us: u64,
        text: Option<String>,
        base64: Option<String>,
    }
    let (text, base64) = text_or_base64(chunk.data.into_vec());
    line(&Line {
        id: id.to_string(),
        stream: chunk.stream.name(),
        offset: chunk.offset,
        time_us: chunk.time_us,
        text,
        base64,
    })
}

/// Output that is missing from the log.
#[derive(Debug, Serialize)]
pub(super) struct MissingOutput {
    /// Where in the log; `null` if that is not known.
    offset: Option<u64>,
    /// How many bytes; `null` if that is not known.
    bytes: Option<u64>,
    /// `dropped`, `forgotten` or `cut`.
    reason: &'static str,
}

impl From<&OutputGap> for MissingOutput {
    fn from(gap: &OutputGap) -> Self {
        MissingOutput {
            offset: Some(gap.offset),
            bytes: gap.bytes,
            reason: gap.reason.name(),
        }
    }
}

impl MissingOutput {
    /// Makes the objects from the totals of an execution, which do not say where output was dropped.
    pub(super) fn from_totals(output: &OutputTotals) -> Vec<Self> {
        let forgotten = MissingOutput {
            offset: Some(0),
            bytes: Some(output.forgotten_bytes),
            reason: GapReason::Forgotten.name(),
        };
        let dropped = MissingOutput {
            offset: None,
            bytes: Some(output.dropped_bytes),
            reason: GapReason::Dropped.name(),
        };
        let both = [forgotten, dropped].into_iter();
        both.filter(|missing| missing.bytes != Some(0)).collect()
    }
}

/// Returns the object for output that is missing between chunks.
pub fn output_gap(id: ExecutionId, gap: &OutputGap) -> String {
    #[derive(Serialize)]
    struct Line {
        id: String,
        #[serde(flatten)]
        missing: MissingOutput,
    }
    line(&Line {
        id: id.to_string(),
        missing: MissingOutput::from(gap),
    })
}
