//! Timestamps at the beginning of lines of output.

use std::time::Duration;

use escher_client::{OutputChunk, OutputStream, Timestamp};

use crate::time::rfc3339;

/// Inserts a timestamp before each line of either stream: the time at which the beginning of the
/// line arrived, even if the line spans several chunks.
#[derive(Debug)]
pub(crate) struct LineTimestamps {
    started_at: Timestamp,
    /// Whether stdout, and stderr, is in the middle of a line.
    is_inside_line: [bool; 2],
}

impl LineTimestamps {
    /// For the output of a command that was started at `started_at`.
    pub(crate) fn new(started_at: Timestamp) -> Self {
        LineTimestamps {
            started_at,
            is_inside_line: [false; 2],
        }
    }

    /// Returns the chunk's data with timestamps.
    pub(crate) fn insert(&mut self, chunk: &OutputChunk) -> Vec<u8> {
        let time = self
            .started_at
            .saturating_add(Duration::from_micros(chunk.time_us));
        let timestamp = rfc3339(time) + " ";
        let is_inside_line = match chunk.stream {
            OutputStream::Stdout => &mut self.is_inside_line[0],
            OutputStream::Stderr => &mut self.is_inside_line[1],
        };
        let mut result = Vec::with_capacity(chunk.data.len() + timestamp.len());
        for line in chunk.data.split_inclusive(|&byte| byte == b'\n') {
            if !*is_inside_line {
                result.extend_from_slice(timestamp.as_bytes());
            }
            result.extend_from_slice(line);
            *is_inside_line = !line.ends_with(b"\n");
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(stream: OutputStream, time_us: u64, data: &[u8]) -> OutputChunk {
        OutputChunk {
            stream,
            offset: 0,
            time_us,
            data: data.into(),
        }
    }

    #[test]
    fn a_line_has_the_time_of_its_beginning() {
        use OutputStream::{Stderr, Stdout};
        let mut timestamps = LineTimestamps::new(Timestamp::from_micros(0));
        let mut insert = |stream, time, data: &[u8]| {
            String::from_utf8(timestamps.insert(&chunk(stream, time, data))).unwrap()
        };
        let time = |micros: u32| format!("1970-01-01T00:00:00.{micros:06}Z ");
        assert_eq!(insert(Stdout, 1, b"a\nb"), format!("{0}a\n{0}b", time(1)));
        assert_eq!(insert(Stderr, 2, b"E"), format!("{}E", time(2)));
        assert_eq!(insert(Stdout, 3, b"c\n\n"), format!("c\n{}\n", time(3)));
        assert_eq!(insert(Stderr, 4, b"\n"), "\n");
        assert_eq!(insert(Stdout, 5, b""), "");
        assert_eq!(insert(Stdout, 6, b"d"), format!("{}d", time(6)));
    }
}
