//! Reading a log by its index.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use escher_protocol::output::MAX_CHUNK_BYTES;
use escher_protocol::{GapReason, OutputChunk, OutputGap, OutputItem, StreamSelection};
use nix::fcntl::OFlag;

use super::OutputBatch;
use super::index::IndexReader;
use crate::blocking::Abandoned;

/// Maximum number of items in a batch. A command that writes to its streams alternately causes many
/// small ones.
const MAX_BATCH_ITEMS: usize = 1024;

/// Number of bytes that are read at once when lines are counted back from the end.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// How often work is begun anew because the log was forgotten beneath it.
const MAX_OVERTAKEN: usize = 8;

/// An open log with its index.
///
/// While it is read, its beginning may be forgotten (see [`escher_launcher::ipc::log_index`]). So
/// what was read counts only from the mark on that is read afterwards.
#[derive(Debug)]
pub(super) struct LogFiles {
    log: File,
    index: IndexReader,
    /// Where the log began when that was last looked up: what is before was forgotten.
    start: u64,
    /// Whether anybody still waits for the present work.
    abandoned: Abandoned,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadRange {
    pub(super) offset: u64,
    /// Up to here the log is known to have been written.
    pub(super) end: u64,
    /// Up to here missing output is reported. It may be beyond `end`.
    pub(super) stop: u64,
}

/// The beginning of last lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinesStart {
    pub(super) offset: u64,
    /// Whether there are fewer lines than requested, and some were forgotten before them.
    pub(super) lacks_lines: bool,
}

/// Bytes of the selected streams that were skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Their number.
    pub(super) bytes: u64,
    /// The offset after the last of them.
    pub(super) end: u64,
}

/// Output that was dropped, as far as the records of it have been read.
#[derive(Debug, Clone, Copy)]
struct Drops {
    offset: u64,
    /// Bytes that had been dropped before.
    before: u64,
    /// Bytes that had been dropped at the last record.
    last: u64,
    /// Whether the last record ended the gap.
    is_closed: bool,
}

impl Drops {
    /// Continues `drops` with the next record, which is at `offset`.
    fn add(drops: &mut Option<Drops>, offset: u64, dropped: u64) {
        match drops {
            Some(drops) if drops.offset == offset => {
                drops.last = dropped;
                drops.is_closed = !drops.is_closed;
            }
            _ => {
                *drops = Some(Drops {
                    offset,
                    before: dropped,
                    last: dropped,
                    is_closed: false,
                });
            }
        }
    }

    /// Returns the gap. `total` counts the bytes that had been dropped when it ended, if that is
    /// known from elsewhere.
    fn into_gap(self, total: Option<u64>) -> Option<OutputGap> {
        let last = total.or(self.is_closed.then_some(self.last));
        let bytes = last.map(|last| last.saturating_sub(self.before));
        (bytes != Some(0)).then_some(OutputGap {
            offset: self.offset,
            bytes,
            reason: GapReason::Dropped,
        })
    }
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
            start: index.forgotten_up_to()?,
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

    /// Returns whether the log was deleted since it was opened. The launcher empties what it deletes.
    pub(super) fn is_deleted(&self) -> io::Result<bool> {
        let metadata = self.log.metadata()?;
        Ok(metadata.nlink() == 0 && metadata.len() == 0)
    }

    /// Returns the offset at which what is left of the log begins.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the length of the log.
    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.log.metadata()?.len())
    }

    /// Returns how much of the log has been written, as far as the files tell. Where it was cut from
    /// outside, its last record may still say that it was longer.
    pub(super) fn written_length(&mut self) -> io::Result<u64> {
        let last = self.index.record_count()?.checked_sub(1);
        let recorded = match last {
            Some(last) => self.index.offset_of(last)?.unwrap_or(0),
            None => 0,
        };
        // After the index: the log is never shorter than a record that was there before.
        Ok(self.length()?.max(recorded))
    }

    /// Reads the items of `streams` in a range, as many as fit into a frame, and missing output in
    /// it. A gap at the end of the range is not among them.
    pub(super) fn read(
        &mut self,
        streams: StreamSelection,
        range: ReadRange,
    ) -> io::Result<OutputBatch> {
        self.start = self.index.forgotten_up_to()?;
        let begin = range.offset.max(self.start);
        let length = self.length()?;
        let read = self.read_runs(streams, begin, range.end.min(length));
        self.start = self.index.forgotten_up_to()?;
        let mut batch = match read {
            // The records or bytes may have been holes already.
            Err(_) if self.start > begin => OutputBatch::empty(begin),
            read => read?,
        };
        let start = self.start.min(range.stop);
        if start > range.offset {
            batch.begin_at(start);
            batch.items.insert(
                0,
                OutputItem::Gap(OutputGap {
                    offset: range.offset,
                    bytes: Some(start - range.offset),
                    reason: GapReason::Forgotten,
                }),
            );
        }
        if length <= batch.next_offset && batch.next_offset < range.end {
            batch.items.push(OutputItem::Gap(OutputGap {
                offset: batch.next_offset,
                bytes: Some(range.end - batch.next_offset),
                reason: GapReason::Cut,
            }));
            batch.next_offset = range.end;
        }
        Ok(batch)
    }

    /// Reads what the files have between two offsets, as if nothing was ever forgotten.
    fn read_runs(
        &mut self,
        streams: StreamSelection,
        offset: u64,
        end: u64,
    ) -> io::Result<OutputBatch> {
        let mut batch = OutputBatch::empty(offset);
        if offset >= end {
            return Ok(batch);
        }
        let mut number = self.index.find_start(offset)?;
        let mut capacity = MAX_CHUNK_BYTES;
        let mut drops = None;
        while batch.next_offset < end && capacity > 0 && batch.items.len() < MAX_BATCH_ITEMS {
            self.end_if_abandoned()?;
            let run = self.index.run(number)?;
            if let Some(dropped) = run.dropped
                && run.offset >= offset
            {
                Drops::add(&mut drops, run.offset, dropped);
            }
            let stop = run.end.min(end);
            if stop <= batch.next_offset {
                number += 1;
                continue;
            }
            // Only with the output after it, so that the next batch does not report it again.
            let gap = drops.take().and_then(|drops| drops.into_gap(None));
            batch.items.extend(gap.map(OutputItem::Gap));
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
                batch.items.push(OutputItem::Chunk(chunk));
            } else {
                batch.next_offset = stop;
            }
        }
        Ok(batch)
    }

    /// Returns the gap of dropped output at `end`, where the log ends. `dropped` counts all bytes that
    /// were dropped; `None` while that is not known.
    pub(super) fn final_gap(
        &mut self,
        end: u64,
        dropped: Option<u64>,
    ) -> io::Result<Option<OutputGap>> {
        let mut drops = None;
        let first = self.index.first_at(end)?;
        for number in first..self.index.record_count()? {
            self.end_if_abandoned()?;
            if self.index.offset_of(number)? != Some(end) {
                break;
            }
            if let Some((offset, dropped)) = self.index.drop_at(number)? {
                Drops::add(&mut drops, offset, dropped);
            }
        }
        if let Some(drops) = drops {
            return Ok(drops.into_gap(dropped));
        }
        // The disk may have been too full for a record. The last one says what was dropped before.
        let Some(dropped) = dropped.filter(|dropped| *dropped > 0) else {
            return Ok(None);
        };
        let oldest = self.index.find(self.start)?;
        for number in (oldest..first).rev() {
            self.end_if_abandoned()?;
            if let Some((_, before)) = self.index.drop_at(number)? {
                return Ok(dropped_gap(end, dropped.saturating_sub(before)));
            }
        }
        // What was dropped in the part that was forgotten is a part of that.
        let before = if self.start > 0 { dropped } else { 0 };
        Ok(dropped_gap(end, dropped - before))
    }

    /// Returns where a finished log of `end` bytes lacks output, in order; of more than `most` gaps
    /// the last stands for all that follow. `dropped` is as for [`LogFiles::final_gap`].
    pub(super) fn gaps(
        &mut self,
        end: u64,
        dropped: Option<u64>,
        most: usize,
    ) -> io::Result<Vec<OutputGap>> {
        self.start = self.index.forgotten_up_to()?;
        let mut gaps = GapList {
            gaps: Vec::new(),
            most,
        };
        let start = self.start.min(end);
        gaps.push((start > 0).then_some(OutputGap {
            offset: 0,
            bytes: Some(start),
            reason: GapReason::Forgotten,
        }));
        let length = self.length()?.max(start);
        if dropped != Some(0) {
            let mut drops = None;
            for number in self.index.first_at(start)?..self.index.record_count()? {
                self.end_if_abandoned()?;
                let Some((offset, dropped)) = self.index.drop_at(number)? else {
                    continue;
                };
                if offset >= end.min(length) {
                    break;
                }
                if drops.is_some_and(|drops: Drops| drops.offset != offset) {
                    gaps.push(drops.take().and_then(|drops| drops.into_gap(None)));
                }
                Drops::add(&mut drops, offset, dropped);
            }
            gaps.push(drops.and_then(|drops| drops.into_gap(None)));
        }
        if length < end {
            gaps.push(Some(OutputGap {
                offset: length,
                bytes: Some(end - length),
                reason: GapReason::Cut,
            }));
        }
        let final_gap = self.final_gap(end, dropped)?;
        gaps.push(final_gap);
        Ok(gaps.gaps)
    }

    /// Returns the offset at which the last `lines` lines of `streams` before `end` begin. A last
    /// line without a newline counts.
    pub(super) fn start_of_last_lines(
        &mut self,
        streams: StreamSelection,
        lines: u64,
        end: u64,
    ) -> io::Result<LinesStart> {
        let end = end.min(self.length()?);
        for _ in 0..MAX_OVERTAKEN {
            let begin = self.start;
            let found = self.find_last_lines(streams, lines, end);
            self.start = self.index.forgotten_up_to()?;
            if self.start == begin || found.as_ref().is_ok_and(|found| found.offset >= self.start) {
                return found;
            }
        }
        // The log is forgotten faster than it is searched.
        Ok(LinesStart {
            offset: self.start,
            lacks_lines: true,
        })
    }

    fn find_last_lines(
        &mut self,
        streams: StreamSelection,
        lines: u64,
        end: u64,
    ) -> io::Result<LinesStart> {
        let found = |offset| {
            Ok(LinesStart {
                offset,
                lacks_lines: false,
            })
        };
        if end <= self.start || lines == 0 {
            return found(end.max(self.start));
        }
        let (mut remaining, mut is_last_byte) = (lines, true);
        let mut number = Some(self.index.find(end - 1)?);
        let mut begin = end;
        while let Some(current) = number {
            self.end_if_abandoned()?;
            let run = self.index.run(current)?;
            let first = run.offset.max(self.start);
            let mut stop = run.end.min(end);
            while run.is_selected(streams) && stop > first {
                self.end_if_abandoned()?;
                let from = stop.saturating_sub(TAIL_BLOCK_BYTES).max(first);
                let mut block = vec![0; usize::try_from(stop - from).unwrap_or(0)];
                self.log.read_exact_at(&mut block, from)?;
                for (index, byte) in block.iter().enumerate().rev() {
                    let ends_the_last_line = std::mem::take(&mut is_last_byte);
                    if *byte == b'\n' && !ends_the_last_line {
                        remaining -= 1;
                        if remaining == 0 {
                            return found(from + index as u64 + 1);
                        }
                    }
                }
                stop = from;
                begin = from;
            }
            number = current
                .checked_sub(1)
                .filter(|_| !run.begins_log(self.start));
        }
        if self.start > 0 {
            return Ok(LinesStart {
                offset: self.start,
                lacks_lines: true,
            });
        }
        found(begin)
    }

    /// Skips `bytes` bytes of `streams` from `offset` on, or fewer if `end` comes first. `offset`
    /// must not be forgotten.
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
    /// which all of them begin if fewer are left.
    pub(super) fn skip_backward(
        &mut self,
        streams: StreamSelection,
        end: u64,
        bytes: u64,
    ) -> io::Result<u64> {
        if end <= self.start || bytes == 0 {
            return Ok(end);
        }
        let (mut begin, mut remaining) = (end, bytes);
        let mut number = Some(self.index.find(end - 1)?);
        while let Some(current) = number
            && remaining > 0
        {
            self.end_if_abandoned()?;
            let run = self.index.run(current)?;
            let first = run.offset.max(self.start);
            let stop = run.end.min(end);
            let taken = stop.saturating_sub(first).min(remaining);
            if run.is_selected(streams) && taken > 0 {
                begin = stop - taken;
                remaining -= taken;
            }
            number = current
                .checked_sub(1)
                .filter(|_| !run.begins_log(self.start));
        }
        Ok(begin)
    }
}

/// Returns the gap of `bytes` dropped bytes at `offset`, if that is any.
pub(super) fn dropped_gap(offset: u64, bytes: u64) -> Option<OutputGap> {
    (bytes > 0).then_some(OutputGap {
        offset,
        bytes: Some(bytes),
        reason: GapReason::Dropped,
    })
}

/// Gaps, of which at most this many are kept apart.
struct GapList {
    gaps: Vec<OutputGap>,
    most: usize,
}

impl GapList {
    fn push(&mut self, gap: Option<OutputGap>) {
        let Some(gap) = gap else { return };
        let is_full = self.gaps.len() >= self.most;
        match self.gaps.last_mut().filter(|_| is_full) {
            None => self.gaps.push(gap),
            Some(last) => {
                let sum = last.bytes.zip(gap.bytes);
                last.bytes = sum.map(|(bytes, more)| bytes.saturating_add(more));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample::SampleLog;
    use OutputStream::{Stderr, Stdout};
    use escher_launcher::ipc::log_index::{HEADER_BYTES, RECORD_BYTES, Record, RecordKind};
    use escher_protocol::OutputStream;

    fn open(sample: &SampleLog) -> LogFiles {
        LogFiles::open(&sample.log()).unwrap().unwrap()
    }

    /// Reads a range of a log that was forgotten nowhere.
    fn read(
        files: &mut LogFiles,
        streams: StreamSelection,
        offset: u64,
        end: u64,
    ) -> io::Result<OutputBatch> {
        let stop = end;
        files.read(streams, ReadRange { offset, end, stop })
    }

    fn last_lines(
        files: &mut LogFiles,
        streams: StreamSelection,
        lines: u64,
        end: u64,
    ) -> io::Result<u64> {
        let found = files.start_of_last_lines(streams, lines, end)?;
        assert!(!found.lacks_lines);
        Ok(found.offset)
    }

    fn text(batch: &OutputBatch) -> Vec<(OutputStream, u64, String)> {
        let chunks = batch.items.iter().filter_map(|item| match item {
            OutputItem::Chunk(chunk) => Some(chunk),
            OutputItem::Gap(_) => None,
        });
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
        let both = read(&mut files, StreamSelection::Both, 0, 8).unwrap();
        let expected = [
            (Stdout, 0, "abc".into()),
            (Stderr, 3, "XY".into()),
            (Stdout, 5, "def".into()),
        ];
        assert_eq!(text(&both), expected);
        for offset in 0..=8 {
            let rest = read(&mut files, StreamSelection::Both, offset, 8).unwrap();
            let bytes: String = text(&rest).into_iter().map(|chunk| chunk.2).collect();
            assert_eq!(bytes, "abcXYdef"[usize::try_from(offset).unwrap()..]);
        }
        let errors = read(&mut files, StreamSelection::Only(Stderr), 0, 8).unwrap();
        assert_eq!(
            (text(&errors), errors.next_offset),
            (vec![(Stderr, 3, "XY".into())], 8)
        );
        let part = read(&mut files, StreamSelection::Both, 1, 4).unwrap();
        assert_eq!(
            text(&part),
            [(Stdout, 1, "bc".into()), (Stderr, 3, "X".into())]
        );
    }

    #[test]
    fn counts_last_lines_in_the_selected_streams() {
        let sample = SampleLog::new([(Stdout, "a\nb\n"), (Stderr, "E\n"), (Stdout, "c\nd")]);
        let mut files = open(&sample);
        let mut start = |streams, lines| last_lines(&mut files, streams, lines, 9).unwrap();
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
            RecordKind::Unknown(5),
            RecordKind::Unknown(6),
            RecordKind::Unknown(255),
        ];
        let index = std::fs::read(with_events.index()).unwrap();
        let events_at = |offset| {
            kinds.map(|kind| Record {
                offset,
                kind,
                value: 1,
            })
        };
        let (header, records) = index.split_at(HEADER_BYTES);
        let (mut all_records, mut records) = (header.to_vec(), records.chunks(RECORD_BYTES));
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
                let expected = read(&mut plain, streams, offset, 9).unwrap();
                let found = read(&mut with_events, streams, offset, 9).unwrap();
                assert_eq!(text(&found), text(&expected), "{streams:?} from {offset}");
                assert_eq!(found.next_offset, expected.next_offset);
                for count in 0..4 {
                    assert_eq!(
                        last_lines(&mut with_events, streams, count, offset).unwrap(),
                        last_lines(&mut plain, streams, count, offset).unwrap()
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
                let batch = read(&mut files, StreamSelection::Both, offset, 8)?;
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
        index
            .set_len(HEADER_BYTES as u64 + 2 * RECORD_BYTES as u64 - 1)
            .unwrap();
        let all = read(&mut open(&sample), StreamSelection::Both, 0, 6).unwrap();
        assert_eq!(text(&all), [(Stdout, 0, "abcdef".into())]);
        index.set_len(HEADER_BYTES as u64).unwrap();
        assert!(read(&mut open(&sample), StreamSelection::Both, 0, 6).is_err());
        index.set_len(3).unwrap();
        assert!(LogFiles::open(&sample.log()).is_err());
    }
}
