//! Output whose lines begin with their time.

use escher_client::{OutputChunk, OutputStream, Timestamp};

use super::time::rfc3339;
use std::time::Duration;

/// Puts a time before each line, also where a line comes in several chunks or the two outputs take
/// turns: a line has the time at which its beginning arrived.
#[derive(Debug)]
pub(crate) struct Stamper {
    started_at: Timestamp,
    /// Whether the last byte of stdout, and of stderr, was not the end of a line.
    inside_line: [bool; 2],
}

impl Stamper {
    /// For a command that was started then.
    pub(crate) fn new(started_at: Timestamp) -> Self {
        Stamper {
            started_at,
            inside_line: [false; 2],
        }
    }

    pub(crate) fn stamp(&mut self, chunk: &OutputChunk) -> Vec<u8> {
        let time = self
            .started_at
            .saturating_add(Duration::from_micros(chunk.time_us));
        let stamp = rfc3339(time) + " ";
        let inside = match chunk.stream {
            OutputStream::Stdout => &mut self.inside_line[0],
            OutputStream::Stderr => &mut self.inside_line[1],
        };
        let mut stamped = Vec::with_capacity(chunk.data.len() + stamp.len());
        for line in chunk.data.split_inclusive(|&byte| byte == b'\n') {
            if !*inside {
                stamped.extend_from_slice(stamp.as_bytes());
            }
            stamped.extend_from_slice(line);
            *inside = !line.ends_with(b"\n");
        }
        stamped
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
        let mut stamper = Stamper::new(Timestamp::from_micros(0));
        let mut stamp = |stream, time, data: &[u8]| {
            String::from_utf8(stamper.stamp(&chunk(stream, time, data))).unwrap()
        };
        let time = |micros: u32| format!("1970-01-01T00:00:00.{micros:06}Z ");
        assert_eq!(stamp(Stdout, 1, b"a\nb"), format!("{0}a\n{0}b", time(1)));
        assert_eq!(stamp(Stderr, 2, b"E"), format!("{}E", time(2)));
        assert_eq!(stamp(Stdout, 3, b"c\n\n"), format!("c\n{}\n", time(3)));
        assert_eq!(stamp(Stderr, 4, b"\n"), "\n");
        assert_eq!(stamp(Stdout, 5, b""), "");
        assert_eq!(stamp(Stdout, 6, b"d"), format!("{}d", time(6)));
    }
}
