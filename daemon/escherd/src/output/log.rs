//! Reading a log by its index.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use escher_protocol::output::MAX_CHUNK_BYTES;
use escher_protocol::{GapReason, OutputChunk, OutputGap, OutputItem};
use nix::fcntl::OFlag;

use super::OutputBatch;
use super::gaps::{Drops, GapList, dropped_gap};
use super::index::IndexReader;
use super::selection::OutputSelection;
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

/// Selected bytes that were skipped.
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

    /// Reads the selected items in a range, as many as fit into a frame, and missing output in
    /// it. A gap at the end of the range is not among them.
    pub(super) fn read(
        &mut self,
        selection: impl Into<OutputSelection>,
        range: ReadRange,
    ) -> io::Result<OutputBatch> {
        let selection = selection.into();
        self.start = self.index.forgotten_up_to()?;
        let begin = range.offset.max(self.start);
        let length = self.length()?;
        let read = self.read_runs(selection, begin, range.end.min(length));
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
        selection: OutputSelection,
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
            if let Some(stream) = run.stream
                && run.is_selected(selection)
            {
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
        let oldest = self.index.first_at(self.start)?;
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

    /// Returns the offset at which the last `lines` selected lines before `end` begin. A last
    /// line without a newline counts.
    pub(super) fn start_of_last_lines(
        &mut self,
        selection: impl Into<OutputSelection>,
        lines: u64,
        end: u64,
    ) -> io::Result<LinesStart> {
        let selection = selection.into();
        let end = end.min(self.length()?);
        for _ in 0..MAX_OVERTAKEN {
            let begin = self.start;
            let found = self.find_last_lines(selection, lines, end);
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
        selection: OutputSelection,
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
            while run.is_selected(selection) && stop > first {
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

    /// Skips `bytes` selected bytes from `offset` on, or fewer if `end` comes first. `offset`
    /// must not be forgotten.
    pub(super) fn skip_forward(
        &mut self,
        selection: impl Into<OutputSelection>,
        offset: u64,
        bytes: u64,
        end: u64,
    ) -> io::Result<Skipped> {
        let selection = selection.into();
        let mut skipped = Skipped {
            bytes: 0,
            end: offset,
        };
        let mut number = self.index.find(offset)?;
        while skipped.bytes < bytes && skipped.end < end {
            self.end_if_abandoned()?;
            let run = self.index.run(number)?;
            let length = run.end.min(end).saturating_sub(skipped.end);
            if run.is_selected(selection) {
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

    /// Returns the offset at which the last `bytes` selected bytes before `end` begin, or at
    /// which all of them begin if fewer are left.
    pub(super) fn skip_backward(
        &mut self,
        selection: impl Into<OutputSelection>,
        end: u64,
        bytes: u64,
    ) -> io::Result<u64> {
        let selection = selection.into();
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
            if run.is_selected(selection) && taken > 0 {
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
