//! Output of commands: streams, ranges, chunks and gaps.

use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::time::Timestamp;

/// Most bytes of output in one [`OutputChunk`].
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// One of a command's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output, descriptor 1.
    Stdout,
    /// Standard error, descriptor 2.
    Stderr,
}

impl OutputStream {
    /// Returns `stdout` or `stderr`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        }
    }
}

/// Which of the two output streams to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamSelection {
    /// Both, in the order of arrival.
    #[default]
    Both,
    /// Only this one.
    Only(OutputStream),
}

impl StreamSelection {
    /// Returns whether the selection includes `stream`.
    #[must_use]
    pub fn includes(self, stream: OutputStream) -> bool {
        match self {
            StreamSelection::Both => true,
            StreamSelection::Only(selected) => selected == stream,
        }
    }
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStart {
    /// At this byte of the log, counted over both streams. An offset past the end reads nothing
    /// until the log has grown beyond it.
    Offset(u64),
    /// At the last lines, this many, of the selected streams when the request is served.
    LastLines(u64),
}

/// A range of an execution's output. The default is all of it. Of what `start` and `length` name, only what arrived
/// between the two times is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRange {
    /// Which streams to read.
    pub streams: StreamSelection,
    /// Where to start.
    pub start: OutputStart,
    /// Bytes of the log to read from there, selected or not; `None`: to the end.
    pub length: Option<u64>,
    /// Only output that arrived at this time or later.
    pub since: Option<Timestamp>,
    /// Only output that arrived before this time.
    pub until: Option<Timestamp>,
}

impl Default for OutputRange {
    fn default() -> Self {
        OutputRange {
            streams: StreamSelection::Both,
            start: OutputStart::Offset(0),
            length: None,
            since: None,
            until: None,
        }
    }
}

impl OutputRange {
    /// Returns the range of all output from this byte of the log on.
    #[must_use]
    pub fn from_offset(offset: u64) -> Self {
        OutputRange {
            start: OutputStart::Offset(offset),
            ..OutputRange::default()
        }
    }
}

/// Consecutive bytes of one output stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputChunk {
    /// Which stream.
    pub stream: OutputStream,
    /// Where `data` begins in the log, counted in bytes over both streams. A read from
    /// `offset + data.len()` continues without gap or repeat.
    pub offset: u64,
    /// When `data` arrived, in microseconds since the command's start. Output of one stream within
    /// a millisecond (longer where many short pieces would make the index larger than the log) has
    /// the time of its first byte.
    pub time_us: u64,
    /// The bytes; at most [`MAX_CHUNK_BYTES`].
    pub data: Blob,
}

/// Output that is missing from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputGap {
    /// Where in the log it is missing, counted in bytes over both streams.
    pub offset: u64,
    /// How many bytes of both streams; `None` if that is not known: output is still being dropped,
    /// or its end was not seen.
    pub bytes: Option<u64>,
    /// Why it is missing.
    pub reason: GapReason,
}

impl OutputGap {
    /// Returns the offset at which reading continues. Output that was dropped never had offsets.
    #[must_use]
    pub fn end(&self) -> u64 {
        match self.reason {
            GapReason::Dropped => self.offset,
            GapReason::Forgotten | GapReason::Cut => {
                self.offset.saturating_add(self.bytes.unwrap_or(0))
            }
        }
    }
}

/// Why output is missing from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GapReason {
    /// It was never written: the log had reached its limit, or could not be written, as on a full
    /// disk.
    Dropped,
    /// It was deleted, because the log had reached its limit and newer output took its place.
    Forgotten,
    /// Something other than escher has shortened the log.
    Cut,
}

impl GapReason {
    /// Returns the name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GapReason::Dropped => "dropped",
            GapReason::Forgotten => "forgotten",
            GapReason::Cut => "cut",
        }
    }
}

/// An item of the output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputItem {
    /// The next bytes.
    Chunk(OutputChunk),
    /// Output is missing here.
    Gap(OutputGap),
}

impl OutputItem {
    /// Returns the bytes; `None` where output is missing.
    #[must_use]
    pub fn into_chunk(self) -> Option<OutputChunk> {
        match self {
            OutputItem::Chunk(chunk) => Some(chunk),
            OutputItem::Gap(_) => None,
        }
    }
}
