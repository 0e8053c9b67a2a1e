//! An index, read: whose the bytes of a log are. (See [`escher_launcher::ipc::log_index`] for its format.)

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use escher_launcher::ipc::log_index::{RECORD_BYTES, Record, decode_header};
use escher_protocol::{OutputStream, StreamSelection};

/// Records that are read at once: a page of them.
const BLOCK_RECORDS: usize = 256;

/// An index, open.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    /// The records that were read last, and the number of the first of them: whoever goes over the log asks for
    /// one after the other. A whole record never changes, so they hold good while the index grows.
    block: (u64, Vec<Record>),
    /// The record that was asked for last, to go on from there.
    place: u64,
}

/// The bytes of the log that belong to one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Whose they are; `None` for a record that marks something else, to which no bytes belong.
    pub(super) stream: Option<OutputStream>,
    /// When the first of them arrived, in microseconds since the command's start.
    pub(super) time_us: u64,
    pub(super) offset: u64,
    /// Of the last record: there is no telling but by the length of the log.
    pub(super) end: u64,
}

impl Run {
    /// Whether the bytes are of one of these streams.
    pub(super) fn is_selected(&self, streams: StreamSelection) -> bool {
        self.stream.is_some_and(|stream| streams.includes(stream))
    }
}

impl Index {
    /// The index in `file`.
    ///
    /// # Errors
    /// Those of reading, and one for a file that is no index.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut header = [0; RECORD_BYTES];
        file.read_exact_at(&mut header, 0)?;
        decode_header(header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Index {
            file,
            block: (0, Vec::new()),
            place: 0,
        })
    }

    /// The number of the record of a stream whose range holds `offset`, or of the last one before.
    pub(super) fn find(&mut self, offset: u64) -> io::Result<u64> {
        if let Some(run) = self.look(self.place)?
            && run.offset <= offset
            && offset < run.end
        {
            return Ok(self.place);
        }
        let (mut low, mut high) = (0, self.records()?);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.record(middle)? {
                Some(record) if record.offset <= offset => low = middle,
                _ => high = middle,
            }
        }
        // The bytes behind a record that is no stream's belong to the stream before it.
        while low > 0
            && self
                .record(low)?
                .is_some_and(|record| record.kind.stream().is_none())
        {
            low -= 1;
        }
        Ok(low)
    }

    /// The record with this number, which bytes of the log say is there.
    pub(super) fn run(&mut self, number: u64) -> io::Result<Run> {
        self.place = number;
        self.look(number)?
            .ok_or_else(|| damaged("the index is too short"))
    }

    fn look(&mut self, number: u64) -> io::Result<Option<Run>> {
        let Some(record) = self.record(number)? else {
            return Ok(None);
        };
        let stream = record.kind.stream();
        let end = match stream {
            Some(_) => self.next_run_offset(number)?.unwrap_or(u64::MAX),
            None => record.offset,
        };
        if end < record.offset {
            return Err(damaged("the index goes backwards"));
        }
        Ok(Some(Run {
            stream,
            time_us: record.time_us,
            offset: record.offset,
            end,
        }))
    }

    /// Where the next record of a stream after this one begins.
    fn next_run_offset(&mut self, number: u64) -> io::Result<Option<u64>> {
        for next in number + 1.. {
            match self.record(next)? {
                Some(record) if record.kind.stream().is_none() => {}
                found => return Ok(found.map(|record| record.offset)),
            }
        }
        Ok(None)
    }

    fn records(&self) -> io::Result<u64> {
        let bytes = self.file.metadata()?.len();
        Ok((bytes / RECORD_BYTES as u64).saturating_sub(1))
    }

    /// `None` past the last whole record.
    fn record(&mut self, number: u64) -> io::Result<Option<Record>> {
        let within = |block: &(u64, Vec<Record>)| {
            let place = usize::try_from(number.checked_sub(block.0)?).ok()?;
            block.1.get(place).copied()
        };
        if let Some(record) = within(&self.block) {
            return Ok(Some(record));
        }
        self.block = self.read_block(number - number % BLOCK_RECORDS as u64)?;
        Ok(within(&self.block))
    }

    fn read_block(&self, first: u64) -> io::Result<(u64, Vec<Record>)> {
        let mut bytes = [0; BLOCK_RECORDS * RECORD_BYTES];
        let start = (first + 1) * RECORD_BYTES as u64;
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
        // What is left over is a torn record.
        let (records, _) = bytes[..filled].as_chunks();
        Ok((first, records.iter().copied().map(Record::decode).collect()))
    }
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
