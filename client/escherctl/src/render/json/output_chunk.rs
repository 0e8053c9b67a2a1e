//! Output from the log.

use escher_client::OutputChunk;
use serde::Serialize;

use super::object::{line, text_or_base64};

/// Returns the object for a chunk of output.
pub(crate) fn output_chunk(chunk: OutputChunk) -> String {
    #[derive(Serialize)]
    struct Line {
        stream: &'static str,
        offset: u64,
        time_us: u64,
        text: Option<String>,
        base64: Option<String>,
    }
    let (text, base64) = text_or_base64(chunk.data.into_vec());
    line(&Line {
        stream: chunk.stream.name(),
        offset: chunk.offset,
        time_us: chunk.time_us,
        text,
        base64,
    })
}
