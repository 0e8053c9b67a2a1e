//! Pieces of a command's output.

use serde::{Deserialize, Serialize};

use crate::blob::Blob;

/// Most bytes of output that one [`OutputChunk`] carries.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// One of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutputStream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl OutputStream {
    /// `stdout` or `stderr`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        }
    }
}

/// Which outputs a reader wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamSelection {
    /// Both, in the order of arrival.
    #[default]
    Both,
    /// This one alone.
    Only(OutputStream),
}

impl StreamSelection {
    /// Whether `stream` is wanted.
    #[must_use]
    pub fn includes(self, stream: OutputStream) -> bool {
        match self {
            StreamSelection::Both => true,
            StreamSelection::Only(wanted) => wanted == stream,
        }
    }
}

/// Where a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStart {
    /// At this byte of the log, counted over both outputs. Past the end: nothing, or what will come.
    Offset(u64),
    /// At the last so many lines (of the selected outputs) that are there when the request is served.
    LastLines(u64),
}

/// Which part of an execution's output to read. The default is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRange {
    /// Which of the two outputs.
    pub streams: StreamSelection,
    /// Where to begin.
    pub start: OutputStart,
    /// Log bytes to look at from there; `None`: to the end.
    pub length: Option<u64>,
}

impl Default for OutputRange {
    fn default() -> Self {
        OutputRange {
            streams: StreamSelection::Both,
            start: OutputStart::Offset(0),
            length: None,
        }
    }
}

impl OutputRange {
    /// All output from this byte of the log on.
    #[must_use]
    pub fn from_offset(offset: u64) -> Self {
        OutputRange {
            start: OutputStart::Offset(offset),
            ..OutputRange::default()
        }
    }
}

/// Consecutive bytes of one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputChunk {
    /// Which output.
    pub stream: OutputStream,
    /// Where `data` begins in the log, counted over both outputs. Reading on from `offset + data.len()`
    /// continues without gap or repeat.
    pub offset: u64,
    /// When `data` arrived, in microseconds since the command's start. Output of one stream within a
    /// millisecond (more, where many short pieces would make the index longer than the log) counts as
    /// having arrived with its first byte.
    pub time_us: u64,
    /// At most [`MAX_CHUNK_BYTES`].
    pub data: Blob,
}
