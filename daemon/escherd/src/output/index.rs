//! Reading an index, which says to which stream the bytes of a log belong, and where some are
//! missing. Its format is [`escher_launcher::ipc::log_index`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use escher_launcher::ipc::log_index::{
    HEADER_BYTES, MARK_OFFSET, RECORD_BYTES, Record, RecordKind, decode_header, decode_mark,
};
use escher_protocol::OutputStream;

use super::selection::OutputSelection;

/// Number of records that are read at once: a page of memory.
const BLOCK_RECORDS: usize = 256;

/// How often a mark that is being rewritten is read. The writer needs a moment, in which it can be
/// interrupted.
const MARK_ATTEMPTS: usize = 1000;

/// An open index.
#[derive(Debug)]
pub(super) struct IndexReader {
    file: File,
    /// The block of records that was read last, with the number of its first record. It is kept,
    /// because a log is usually read in order, and a complete record never changes, unless it is
    /// forgotten.
    block: (u64, Vec<Record>),
    /// The record that was read last, at which the next search begins.
    current: u64,
}

/// The bytes of the log that belong to one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Their stream; `None` for a record that marks an event and has no bytes.
    pub(super) stream: Option<OutputStream>,
    /// When the first of them arrived, in microseconds since the command's start.
    pub(super) time_us: u64,
    pub(super) offset: u64,
    /// `u64::MAX` for the last record: its bytes end where the log ends.
    pub(super) end: u64,
    /// For a record that says that output was dropped at its offset: how many bytes had been in all.
    pub(super) dropped: Option<u64>,
}

impl Run {
    /// Returns whether the bytes are among those to read.
    pub(super) fn is_selected(&self, selection: OutputSelection) -> bool {
        self.stream
            .is_some_and(|stream| selection.includes(stream, self.time_us))
    }

    /// Returns whether no bytes before these are left of a log that begins at `start`.
    pub(super) fn begins_log(&self, start: u64) -> bool {
        self.stream.is_some() && self.offset <= start
    }
}

impl IndexReader {
    /// Creates a reader of `file`.
    ///
    /// # Errors
    /// When it cannot be read or is not an index of this version.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut header = [0; RECORD_BYTES];
        file.read_exact_at(&mut header, 0)?;
        decode_header(header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(IndexReader {
            file,
            block: (0, Vec::new()),
            current: 0,
        })
    }

    /// Returns the offset up to which the log is forgotten. What was read before this call is sound
    /// from there on.
    ///
    /// # Errors
    /// When the mark cannot be read, or is damaged.
    pub(super) fn forgotten_up_to(&self) -> io::Result<u64> {
        for _ in 0..MARK_ATTEMPTS {
            let mut mark = [0; RECORD_BYTES];
            self.file.read_exact_at(&mut mark, MARK_OFFSET)?;
            if let Some(up_to) = decode_mark(mark) {
                return Ok(up_to);
            }
            // It is being rewritten, perhaps by a process that waits for this processor.
            std::thread::yield_now();
        }
        Err(damaged(
            "the mark in the index does not match its complement",
        ))
    }

    /// Returns the number of the first record to read from `offset` on: that of an event or of
    /// output there, or else of the output record whose range includes it.
    pub(super) fn find_start(&mut self, offset: u64) -> io::Result<u64> {
        let covering = self.find(offset)?;
        let begins_here = self
            .record(covering)?
            .is_some_and(|record| record.offset == offset);
        if begins_here {
            return self.first_at(offset);
        }
        Ok(covering)
    }

    /// Returns the number of the first record at or beyond `offset`; there may be none with it.
    pub(super) fn first_at(&mut self, offset: u64) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.record_count()?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record(middle)? {
                Some(record) if record.offset < offset => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Returns the number of the output record whose range includes `offset`, or of the last output
    /// record before it.
    pub(super) fn find(&mut self, offset: u64) -> io::Result<u64> {
        // The current record, or the one after it, may have become a hole meanwhile.
        if let Ok(Some(run)) = self.try_run(self.current)
            && run.offset <= offset
            && offset < run.end
        {
            return Ok(self.current);
        }
        let (mut low, mut high) = (0, self.record_count()?);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.record(middle)? {
                Some(record) if record.offset <= offset => low = middle,
                _ => high = middle,
            }
        }
        // The bytes after a record of an event belong to the output record before it.
        while low > 0
            && self
                .record(low)?
                .is_some_and(|record| record.kind.stream().is_none())
        {
            low -= 1;
        }
        Ok(low)
    }

    /// Returns the bytes of a record that must exist, since the log has bytes for it.
    pub(super) fn run(&mut self, number: u64) -> io::Result<Run> {
        self.current = number;
        self.try_run(number)?
            .ok_or_else(|| damaged("the index is too short"))
    }

    fn try_run(&mut self, number: u64) -> io::Result<Option<Run>> {
        let Some(record) = self.record(number)? else {
            return Ok(None);
        };
        let stream = record.kind.stream();
        let end = match stream {
            Some(_) => self.next_run_offset(number)?.unwrap_or(u64::MAX),
            None => record.offset,
        };
        if end < record.offset {
            return Err(damaged("the offsets in the index decrease"));
        }
        Ok(Some(Run {
            stream,
            time_us: record.value,
            offset: record.offset,
            end,
            dropped: dropped(&record),
        }))
    }

    /// Returns the offset of the next output record after this one.
    fn next_run_offset(&mut self, number: u64) -> io::Result<Option<u64>> {
        for next in number + 1.. {
            match self.record(next)? {
                Some(record) if record.kind.stream().is_none() => {}
                found => return Ok(found.map(|record| record.offset)),
            }
        }
        Ok(None)
    }

    /// Returns the number of complete records.
    pub(super) fn record_count(&self) -> io::Result<u64> {
        let bytes = self.file.metadata()?.len();
        Ok(bytes.saturating_sub(HEADER_BYTES as u64) / RECORD_BYTES as u64)
    }

    /// Returns offset and total of a record that says that output was dropped; `None` for others, and
    /// past the last complete record.
    pub(super) fn drop_at(&mut self, number: u64) -> io::Result<Option<(u64, u64)>> {
        let record = self.record(number)?;
        Ok(record.and_then(|record| Some((record.offset, dropped(&record)?))))
    }

    /// Returns the offset of a record; `None` past the last complete one.
    pub(super) fn offset_of(&mut self, number: u64) -> io::Result<Option<u64>> {
        Ok(self.record(number)?.map(|record| record.offset))
    }

    /// Returns `None` past the last complete record.
    fn record(&mut self, number: u64) -> io::Result<Option<Record>> {
        let find_in = |block: &(u64, Vec<Record>)| {
            let index = usize::try_from(number.checked_sub(block.0)?).ok()?;
            block.1.get(index).copied()
        };
        if let Some(record) = find_in(&self.block) {
            return Ok(Some(record));
        }
        self.block = self.read_block(number - number % BLOCK_RECORDS as u64)?;
        Ok(find_in(&self.block))
    }

    fn read_block(&self, first: u64) -> io::Result<(u64, Vec<Record>)> {
        let mut bytes = [0; BLOCK_RECORDS * RECORD_BYTES];
        let start = HEADER_BYTES as u64 + first * RECORD_BYTES as u64;
        let mut filled = 0;
        while filled < bytes.len() {
            match self
                .file
                .read_at(&mut bytes[filled..], start + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // The rest is an incomplete record.
        let (records, _) = bytes[..filled].as_chunks();
        Ok((first, records.iter().copied().map(Record::decode).collect()))
    }
}

fn dropped(record: &Record) -> Option<u64> {
    (record.kind == RecordKind::BytesMissing).then_some(record.value)
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
