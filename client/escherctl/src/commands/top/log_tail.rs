//! The last lines of a command's output, in bounded memory.

use std::collections::VecDeque;

use escher_client::OutputItem;

use crate::render::{escape, text};

/// Most lines that are kept, and how many the output is asked for at first.
pub(super) const MAX_LINES: usize = 500;

/// Most bytes that are kept of a line: its beginning.
const MAX_LINE_BYTES: usize = 4096;

/// Where terminals have their tab stops.
const TAB_WIDTH: usize = 8;

/// The last lines of an output.
#[derive(Debug, Default)]
pub(super) struct LogTail {
    /// As they were written. The last one goes on, unless `is_line_over`.
    lines: VecDeque<Line>,
    is_line_over: bool,
}

#[derive(Debug)]
enum Line {
    Output(OutputLine),
    /// Something of escher's own, about the output.
    Notice(String),
}

/// A line of the output, as far as it is kept.
#[derive(Debug, Default)]
struct OutputLine {
    bytes: Vec<u8>,
    /// Whether a carriage return came last: what follows overwrites the line.
    is_returned: bool,
}

impl LogTail {
    /// Adds what comes next.
    pub(super) fn add(&mut self, item: &OutputItem) {
        match item {
            OutputItem::Chunk(chunk) => self.add_bytes(&chunk.data),
            OutputItem::Gap(gap) => {
                self.push(Line::Notice(text::missing_output(gap)));
                self.is_line_over = true;
            }
        }
    }

    /// Returns the last lines, at most `count`, as a terminal can show them.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = String> {
        let first = self.lines.len().saturating_sub(count);
        self.lines.range(first..).map(|line| match line {
            Line::Output(line) => line.shown(),
            Line::Notice(notice) => format!("[{}]", escape::text(notice)),
        })
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, is_whole) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            match self.lines.back_mut() {
                Some(Line::Output(line)) if !self.is_line_over => line.extend(piece),
                _ => {
                    let mut line = OutputLine::default();
                    line.extend(piece);
                    self.push(Line::Output(line));
                }
            }
            self.is_line_over = is_whole;
        }
    }

    fn push(&mut self, line: Line) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl OutputLine {
    /// Adds to the line, as far as it may grow.
    fn extend(&mut self, piece: &[u8]) {
        for (index, text) in piece.split(|byte| *byte == b'\r').enumerate() {
            self.is_returned |= index > 0;
            if self.is_returned && !text.is_empty() {
                self.bytes.clear();
                self.is_returned = false;
            }
            let room = MAX_LINE_BYTES.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&text[..text.len().min(room)]);
        }
    }

    /// Returns the line with blanks for its tabs, and the rest escaped.
    fn shown(&self) -> String {
        let mut shown = String::new();
        for (index, piece) in self.bytes.split(|byte| *byte == b'\t').enumerate() {
            if index > 0 {
                let width = TAB_WIDTH - shown.chars().count() % TAB_WIDTH;
                shown.extend(std::iter::repeat_n(' ', width));
            }
            shown.push_str(&escape::bytes(piece));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::{GapReason, OutputChunk, OutputGap, OutputStream};

    fn chunk(bytes: &[u8]) -> OutputItem {
        OutputItem::Chunk(OutputChunk {
            stream: OutputStream::Stdout,
            offset: 0,
            time_us: 0,
            data: bytes.to_vec().into(),
        })
    }

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut tail = LogTail::default();
        for bytes in chunks {
            tail.add(&chunk(bytes));
        }
        tail.last(usize::MAX).collect()
    }

    #[test]
    fn output_is_shown_in_lines_as_a_terminal_would_and_escaped() {
        for (chunks, expected) in [
            (&[&b"one\ntwo\n"[..]][..], &["one", "two"][..]),
            (&[b"on", b"e\n", b"\ntw", b"o"], &["one", "", "two"]),
            (
                &[b"a\tb\n12345678\tc\n"],
                &["a       b", "12345678        c"],
            ),
            (&[b"dos\r\nline\r\n"], &["dos", "line"]),
            (&[b" 1%\r 50%\r", b"100%\n"], &["100%"]),
            (&[b" 1%\r 50%\r"], &[" 50%"]),
            (&[b"\x1b[31mred\xff\x07\n"], &[r"\x1b[31mred\xff\x07"]),
            (&[b"\xe4\xb8", b"\x96\n"], &["\u{4e16}"]),
            (&[], &[]),
        ] {
            assert_eq!(lines(chunks), expected, "{chunks:?}");
        }
    }

    #[test]
    fn missing_output_is_a_line_of_its_own() {
        let mut tail = LogTail::default();
        tail.add(&chunk(b"begun"));
        tail.add(&OutputItem::Gap(OutputGap {
            offset: 5,
            bytes: Some(7),
            reason: GapReason::Cut,
        }));
        tail.add(&chunk(b"more\n"));
        let lines: Vec<String> = tail.last(usize::MAX).collect();
        assert_eq!(lines[0], "begun");
        assert!(lines[1].starts_with("[7 bytes of the output are missing here"));
        assert_eq!(lines[2], "more");
    }

    #[test]
    fn the_newest_lines_and_the_beginning_of_each_are_kept() {
        let mut tail = LogTail::default();
        for number in 0..=MAX_LINES {
            tail.add(&chunk(format!("{number}\n").as_bytes()));
        }
        assert_eq!(tail.last(usize::MAX).count(), MAX_LINES);
        assert_eq!(tail.last(usize::MAX).next().as_deref(), Some("1"));
        assert_eq!(tail.last(1).collect::<Vec<_>>(), [MAX_LINES.to_string()]);
        let long = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(lines(&[&long, b"y"]), [String::from_utf8_lossy(&long)]);
        // What is overwritten takes no memory.
        let overwritten = [&long[..], b"\r"].concat();
        assert_eq!(lines(&[&overwritten, b"short\n"]), ["short"]);
        assert_eq!(
            lines(&[&[&long[..], &overwritten, b"short"].concat()]),
            ["short"]
        );
    }
}
