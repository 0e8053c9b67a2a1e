//! Reading a log by its index.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use escher_protocol::output::MAX_CHUNK_BYTES;
use escher_protocol::{OutputChunk, StreamSelection};
use nix::fcntl::OFlag;

use super::OutputBatch;
use super::index::IndexReader;
use crate::blocking::Abandoned;

/// Maximum number of chunks in a batch. A command that writes to its streams alternately causes many
/// small ones.
const MAX_BATCH_CHUNKS: usize = 1024;

/// Number of bytes that are read at once when lines are counted back from the end.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// An open log with its index.
#[derive(Debug)]
pub(super) struct LogFiles {
    log: File,
    index: IndexReader,
    /// Whether anybody still waits for the present work.
    abandoned: Abandoned,
}

/// Bytes of the selected streams that were skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Their number.
    pub(super) bytes: u64,
    /// The offset after the last of them.
    pub(super) end: u64,
}

impl LogFiles {
    /// Opens the log at `path` and its index; returns `None` if there is no log (yet).
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let open = |path: &Path| {
            let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            File::options()
                .read(true)
                .custom_flags(flags.bits())
                .open(path)
        };
        let log = match open(path) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // The index is created before the log.
        let index = IndexReader::new(open(&path.with_extension("idx"))?)?;
        Ok(Some(LogFiles {
            log,
            index,
            abandoned: Abandoned::default(),
        }))
    }

    /// Has the next work end early, with an error, once `abandoned` is set.
    pub(super) fn set_abandoned(&mut self, abandoned: Abandoned) {
        self.abandoned = abandoned;
    }

    fn end_if_abandoned(&self) -> io::Result<()> {
        if self.abandoned.is_set() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    pub(super) fn length(&mut self) -> io::Result<u64> {
        Ok(self.log.metadata()?.len())
    }

    /// Reads chunks of `streams` from `offset` on and before `end`, as much as fits into a frame.
    pub(super) fn read(
        &mut self,
        streams: StreamSelection,
        offset: u64,
        end: u64,
    ) -> io::Result<OutputBatch> {
        let mut number = self.index.find(offset)?;
        let mut batch = OutputBatch {
            chunks: Vec::new(),
            next_offset: offset,
        };
        let mut capacity = MAX_CHUNK_BYTES;
        while batch.next_offset < end && capacity > 0 && batch.chunks.len() < MAX_BATCH_CHUNKS {
            let run = self.index.run(number)?;
            let stop = run.end.min(end);
            if stop <= batch.next_offset {
                number += 1;
                continue;
            }
            let selected = run.stream.filter(|stream| streams.includes(*stream));
            if let Some(stream) = selected {
                let available = usize::try_from(stop - batch.next_offset).unwrap_or(usize::MAX);
                let mut data = vec![0; available.min(capacity)];
                self.log.read_exact_at(&mut data, batch.next_offset)?;
                capacity -= data.len();
                let chunk = OutputChunk {
                    stream,
                    offset: batch.next_offset,
                    time_us: run.time_us,
                    data: data.into(),
                };
                batch.next_offset += chunk.data.len() as u64;
                batch.chunks.push(chunk);
            } else {
                batch.next_offset = stop;
            }
        }
        Ok(batch)
    }

    /// Returns the offset at which the last `lines` lines of `streams` before `end` begin. A last
    /// line without a newline counts.
    pub(super) fn start_of_last_lines(
        &mut self,
        streams: StreamSelection,
        lines: u64,
        end: u64,
    ) -> io::Result<u64> {
        if end == 0 || lines == 0 {
            return Ok(end);
        }
        let (mut remaining, mut is_last_byte) = (lines, true);
        let mut number = Some(self.index.find(end - 1)?);
        let mut begin = end;
        while let Some(current) = number {
            self.end_if_abandoned()?;
            let run = self.index.run(current)?;
            let mut stop = run.end.min(end);
            while run.is_selected(streams) && stop > run.offset {
                self.end_if_abandoned()?;
                let from = stop.saturating_sub(TAIL_BLOCK_BYTES).max(run.offset);
                let mut block = vec![0; usize::try_from(stop - from).unwrap_or(0)];
                self.log.read_exact_at(&mut block, from)?;
                for (index, byte) in block.iter().enumerate().rev() {
                    let ends_the_last_line = std::mem::take(&mut is_last_byte);
                    if *byte == b'\n' && !ends_the_last_line {
                        remaining -= 1;
                        if remaining == 0 {
                            return Ok(from + index as u64 + 1);
                        }
                    }
                }
                stop = from;
                begin = from;
            }
            number = current.checked_sub(1);
        }
        Ok(begin)
    }

    /// Skips `bytes` bytes of `streams` from `offset` on, or fewer if `end` comes first.
    pub(super) fn skip_forward(
        &mut self,
        streams: StreamSelection,
        offset: u64,
        bytes: u64,
        end: u64,
    ) -> io::Result<Skipped> {
        let mut skipped = Skipped {
            bytes: 0,
            end: offset,
        };
        let mut number = self.index.find(offset)?;
        while skipped.bytes < bytes && skipped.end < end {
            self.end_if_abandoned()?;
            let run = self.index.run(number)?;
            let length = run.end.min(end).saturating_sub(skipped.end);
            if run.is_selected(streams) {
                let taken = length.min(bytes - skipped.bytes);
                skipped.bytes += taken;
                skipped.end += taken;
            } else {
                skipped.end += length;
            }
            number += 1;
        }
        Ok(skipped)
    }

    /// Returns the offset at which the last `bytes` bytes of `streams` before `end` begin, or at
    /// which all of them begin if there are fewer.
    pub(super) fn skip_backward(
        &mut self,
        streams: StreamSelection,
        end: u64,
        bytes: u64,
    ) -> io::Result<u64> {
        if end == 0 || bytes == 0 {
            return Ok(end);
        }
        let (mut begin, mut remaining) = (end, bytes);
        let mut number = Some(self.index.find(end - 1)?);
        while let Some(current) = number
            && remaining > 0
        {
            self.end_if_abandoned()?;
            let run = self.index.run(current)?;
            let stop = run.end.min(end);
            let taken = stop.saturating_sub(run.offset).min(remaining);
            if run.is_selected(streams) && taken > 0 {
                begin = stop - taken;
                remaining -= taken;
            }
            number = current.checked_sub(1);
        }
        Ok(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample::SampleLog;
    use OutputStream::{Stderr, Stdout};
    use escher_launcher::ipc::log_index::{RECORD_BYTES, Record, RecordKind};
    use escher_protocol::OutputStream;

    fn open(sample: &SampleLog) -> LogFiles {
        LogFiles::open(&sample.log()).unwrap().unwrap()
    }

    fn text(batch: &OutputBatch) -> Vec<(OutputStream, u64, String)> {
        let chunks = batch.chunks.iter();
        chunks
            .map(|chunk| {
                (
                    chunk.stream,
                    chunk.offset,
                    String::from_utf8_lossy(&chunk.data).into_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn abandoned_work_ends_at_its_next_block() {
        let sample = SampleLog::new([(Stdout, "a\nb\n"), (Stderr, "E\n"), (Stdout, "c\nd")]);
        let mut files = open(&sample);
        let (abandoned, abandon) = Abandoned::of_a_test();
        files.set_abandoned(abandoned);
        let both = StreamSelection::Both;
        assert!(files.start_of_last_lines(both, 9, 9).is_ok());
        drop(abandon);
        assert!(files.start_of_last_lines(both, 9, 9).is_err());
        assert!(files.skip_forward(both, 0, 9, 9).is_err());
        assert!(files.skip_backward(both, 9, 9).is_err());
    }

    #[test]
    fn reads_both_streams_or_one_from_any_offset() {
        let sample = SampleLog::new([(Stdout, "abc"), (Stderr, "XY"), (Stdout, "def")]);
        let mut files = open(&sample);
        let both = files.read(StreamSelection::Both, 0, 8).unwrap();
        let expected = [
            (Stdout, 0, "abc".into()),
            (Stderr, 3, "XY".into()),
            (Stdout, 5, "def".into()),
        ];
        assert_eq!(text(&both), expected);
        for offset in 0..=8 {
            let rest = files.read(StreamSelection::Both, offset, 8).unwrap();
            let bytes: String = text(&rest).into_iter().map(|chunk| chunk.2).collect();
            assert_eq!(bytes, "abcXYdef"[usize::try_from(offset).unwrap()..]);
        }
        let errors = files.read(StreamSelection::Only(Stderr), 0, 8).unwrap();
        assert_eq!(
            (text(&errors), errors.next_offset),
            (vec![(Stderr, 3, "XY".into())], 8)
        );
        let part = files.read(StreamSelection::Both, 1, 4).unwrap();
        assert_eq!(
            text(&part),
            [(Stdout, 1, "bc".into()), (Stderr, 3, "X".into())]
        );
    }

    #[test]
    fn counts_last_lines_in_the_selected_streams() {
        let sample = SampleLog::new([(Stdout, "a\nb\n"), (Stderr, "E\n"), (Stdout, "c\nd")]);
        let mut files = open(&sample);
        let mut start = |streams, lines| files.start_of_last_lines(streams, lines, 9).unwrap();
        let both = StreamSelection::Both;
        assert_eq!(
            [0, 1, 2, 3, 4, 9].map(|lines| start(both, lines)),
            [9, 8, 6, 4, 2, 0]
        );
        let errors = StreamSelection::Only(Stderr);
        assert_eq!([1, 2].map(|lines| start(errors, lines)), [4, 4]);
        let out = StreamSelection::Only(Stdout);
        assert_eq!([1, 2, 3].map(|lines| start(out, lines)), [8, 4, 2]);
    }

    #[test]
    fn skips_bytes_of_a_stream_forward_and_backward_from_any_offset() {
        let sample = SampleLog::new([
            (Stdout, "abc"),
            (Stderr, "XY"),
            (Stdout, ""),
            (Stdout, "def"),
        ]);
        let mut files = open(&sample);
        for (streams, selected) in [
            (StreamSelection::Both, "abcXYdef"),
            (StreamSelection::Only(Stdout), "abcdef"),
            (StreamSelection::Only(Stderr), "XY"),
        ] {
            let count = |from: u64, to: u64| {
                let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
                let bytes = "abcXYdef"[range].chars();
                bytes.filter(|byte| selected.contains(*byte)).count() as u64
            };
            for (from, to) in (0..=8).flat_map(|to| (0..=to).map(move |from| (from, to))) {
                let total = count(from, to);
                let all = files.skip_forward(streams, from, u64::MAX, to).unwrap();
                assert_eq!((all.bytes, all.end), (total, to));
                let begin = files.skip_backward(streams, to, total).unwrap();
                assert!(begin >= from && count(begin, to) == total);
                for some in 0..=total {
                    let first = files.skip_forward(streams, from, some, to).unwrap();
                    assert_eq!((first.bytes, count(from, first.end)), (some, some));
                    let begin = files.skip_backward(streams, to, some).unwrap();
                    assert_eq!(count(begin, to), some);
                }
            }
        }
    }

    #[test]
    fn skips_records_of_events() {
        let pieces = [(Stdout, "abc\n"), (Stderr, "XY"), (Stdout, "def")];
        let (plain, with_events) = (SampleLog::new(pieces), SampleLog::new(pieces));
        let kinds = [
            RecordKind::AttemptBegins,
            RecordKind::TerminalResized,
            RecordKind::BytesMissing,
            RecordKind::Forgotten,
            RecordKind::Unknown(6),
            RecordKind::Unknown(255),
        ];
        let index = std::fs::read(with_events.index()).unwrap();
        let events_at = |offset| {
            kinds.map(|kind| Record {
                offset,
                kind,
                time_us: 1,
            })
        };
        let mut records = index.chunks(RECORD_BYTES);
        let mut all_records = records.next().unwrap().to_vec();
        let event_offsets: [&[u64]; 4] = [&[0, 0], &[0, 2, 4], &[4, 5], &[6, 8, 9]];
        for (position, offsets) in event_offsets.into_iter().enumerate() {
            if position > 0 {
                all_records.extend(records.next().unwrap());
            }
            for record in offsets.iter().flat_map(|offset| events_at(*offset)) {
                all_records.extend(record.encode());
            }
        }
        std::fs::write(with_events.index(), all_records).unwrap();
        for streams in [
            StreamSelection::Both,
            StreamSelection::Only(Stdout),
            StreamSelection::Only(Stderr),
        ] {
            for offset in 0..=9 {
                let (mut plain, mut with_events) = (open(&plain), open(&with_events));
                let expected = plain.read(streams, offset, 9).unwrap();
                let found = with_events.read(streams, offset, 9).unwrap();
                assert_eq!(text(&found), text(&expected), "{streams:?} from {offset}");
                assert_eq!(found.next_offset, expected.next_offset);
                for count in 0..4 {
                    assert_eq!(
                        with_events
                            .start_of_last_lines(streams, count, offset)
                            .unwrap(),
                        plain.start_of_last_lines(streams, count, offset).unwrap()
                    );
                    assert_eq!(
                        with_events.skip_forward(streams, offset, count, 9).unwrap(),
                        plain.skip_forward(streams, offset, count, 9).unwrap()
                    );
                    assert_eq!(
                        with_events.skip_backward(streams, offset, count).unwrap(),
                        plain.skip_backward(streams, offset, count).unwrap()
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_an_index_of_another_version_by_number() {
        let sample = SampleLog::new([(Stdout, "abc")]);
        let mut index = std::fs::read(sample.index()).unwrap();
        index[7] = 1;
        std::fs::write(sample.index(), index).unwrap();
        let error = LogFiles::open(&sample.log()).unwrap_err().to_string();
        assert!(error.contains("version 1;"), "{error}");
    }

    /// Whatever a crash or an accident leaves of an index, reading ends with the bytes of the log
    /// or with an error, and never invents a byte.
    #[test]
    fn a_truncated_or_changed_index_never_leads_to_invented_output() {
        let sample = SampleLog::new([(Stdout, "abc"), (Stderr, "XY"), (Stdout, "def")]);
        let (path, index) = (sample.log(), sample.index());
        let bytes = std::fs::read(&index).unwrap();
        let read = || -> io::Result<String> {
            let mut files = LogFiles::open(&path)?.ok_or(io::ErrorKind::NotFound)?;
            let (mut all, mut offset) = (String::new(), 0);
            while offset < 8 {
                let batch = files.read(StreamSelection::Both, offset, 8)?;
                all.extend(text(&batch).into_iter().map(|chunk| chunk.2));
                assert!(batch.next_offset > offset, "no progress at {offset}");
                offset = batch.next_offset;
            }
            Ok(all)
        };
        for length in 0..=bytes.len() {
            std::fs::write(&index, &bytes[..length]).unwrap();
            assert!(
                read().is_err() || read().unwrap() == "abcXYdef",
                "truncated to {length}"
            );
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&index, &changed).unwrap();
            assert!(
                read().map_or(true, |all| "abcXYdef".ends_with(&all)),
                "bit {bit} changed: {:?}",
                read()
            );
        }
    }

    #[test]
    fn ignores_an_incomplete_last_record_and_refuses_a_damaged_index() {
        let sample = SampleLog::new([(Stdout, "abc"), (Stdout, "def")]);
        let index = File::options().write(true).open(sample.index()).unwrap();
        index.set_len(3 * RECORD_BYTES as u64 - 1).unwrap();
        let all = open(&sample).read(StreamSelection::Both, 0, 6).unwrap();
        assert_eq!(text(&all), [(Stdout, 0, "abcdef".into())]);
        index.set_len(RECORD_BYTES as u64).unwrap();
        assert!(open(&sample).read(StreamSelection::Both, 0, 6).is_err());
        index.set_len(3).unwrap();
        assert!(LogFiles::open(&sample.log()).is_err());
    }
}
