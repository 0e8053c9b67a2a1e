//! A prefix before each line of output.

use escher_client::OutputStream;

use crate::stdio::output::OutputPiece;

/// Longest part of a line that waits for its end. A longer line is broken.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// Passes on whole lines alone, each behind a prefix: lines of several executions may come in turn.
#[derive(Debug)]
pub(super) struct LinePrefix {
    prefix: Vec<u8>,
    /// The beginning of a line of stdout, and of stderr.
    held: [Vec<u8>; 2],
}

impl LinePrefix {
    pub(super) fn new(prefix: &str) -> Self {
        LinePrefix {
            prefix: prefix.as_bytes().to_vec(),
            held: [Vec::new(), Vec::new()],
        }
    }

    /// Returns the lines that end in `piece`.
    pub(super) fn add_to(&mut self, piece: &OutputPiece) -> OutputPiece {
        let held = match piece.stream {
            OutputStream::Stdout => &mut self.held[0],
            OutputStream::Stderr => &mut self.held[1],
        };
        let mut bytes = Vec::new();
        for part in piece.bytes.split_inclusive(|byte| *byte == b'\n') {
            held.extend_from_slice(part);
            if held.ends_with(b"\n") {
                bytes.extend_from_slice(&self.prefix);
                bytes.append(held);
            } else if held.len() >= MAX_HELD_BYTES {
                bytes.extend_from_slice(&self.prefix);
                bytes.append(held);
                bytes.push(b'\n');
            }
        }
        OutputPiece {
            stream: piece.stream,
            bytes,
        }
    }

    /// Returns the last lines, which have no end.
    pub(super) fn finish(&mut self) -> Vec<OutputPiece> {
        let streams = [OutputStream::Stdout, OutputStream::Stderr];
        let held = streams.into_iter().zip(&mut self.held);
        held.filter(|(_, held)| !held.is_empty())
            .map(|(stream, held)| {
                let line = [&self.prefix[..], held, b"\n"].concat();
                held.clear();
                OutputPiece {
                    stream,
                    bytes: line,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn add(prefix: &mut LinePrefix, stream: OutputStream, bytes: &[u8]) -> Vec<u8> {
        let bytes = bytes.to_vec();
        prefix.add_to(&OutputPiece { stream, bytes }).bytes
    }

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let mut prefix = LinePrefix::new("web | ");
        assert_eq!(add(&mut prefix, Stdout, b"a\nb"), b"web | a\n");
        assert_eq!(add(&mut prefix, Stderr, b"x\n"), b"web | x\n");
        assert_eq!(add(&mut prefix, Stdout, b"c\n\nd"), b"web | bc\nweb | \n");
        let last = prefix.finish();
        assert_eq!(last.len(), 1);
        assert_eq!(last[0].bytes, b"web | d\n");
        assert!(prefix.finish().is_empty());
    }

    #[test]
    fn a_line_that_does_not_end_is_broken() {
        let mut prefix = LinePrefix::new("|");
        let long = vec![b'x'; MAX_HELD_BYTES - 1];
        assert_eq!(add(&mut prefix, Stdout, &long), b"");
        let broken = add(&mut prefix, Stdout, b"y");
        assert_eq!(broken.len(), MAX_HELD_BYTES + 2);
        assert!(broken.starts_with(b"|x") && broken.ends_with(b"xy\n"));
        assert_eq!(add(&mut prefix, Stdout, b"z\n"), b"|z\n");
    }
}
