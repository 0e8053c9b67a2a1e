//! The way into this module for the fuzz target of logs, which exists in its builds alone.

use std::io;
use std::path::Path;

use escher_protocol::message::MAX_RESULT_GAPS;
use escher_protocol::{OutputItem, OutputStream, StreamSelection};

use super::log::{LogFiles, ReadRange};

/// Reads all of a log that may be damaged, in every way in which one is read. Returns its items.
///
/// # Errors
/// When the log is missing or too damaged.
pub fn read_whole_log(path: &Path, dropped: Option<u64>) -> io::Result<Vec<OutputItem>> {
    let mut files = LogFiles::open(path)?.ok_or(io::ErrorKind::NotFound)?;
    let end = files.written_length()?;
    for lines in [1, u64::MAX] {
        let _ = files.start_of_last_lines(StreamSelection::Both, lines, end);
        let _ = files.start_of_last_lines(StreamSelection::Only(OutputStream::Stderr), lines, end);
    }
    let _ = files.gaps(end, dropped, MAX_RESULT_GAPS);
    let _ = files.skip_backward(StreamSelection::Only(OutputStream::Stdout), end, 7);
    let mut items = Vec::new();
    let mut offset = 0;
    while offset < end {
        let range = ReadRange {
            offset,
            end,
            stop: end,
        };
        let batch = files.read(StreamSelection::Both, range)?;
        assert!(batch.next_offset > offset, "reading goes on");
        offset = batch.next_offset;
        items.extend(batch.items);
    }
    Ok(items)
}
