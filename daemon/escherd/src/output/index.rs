//! An index, read: whose the bytes of a log are. (See [`escher_launcher::ipc::log_index`] for its format.)

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use escher_launcher::ipc::log_index::{RECORD_BYTES, Record, decode_header};

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

/// A record and where its range ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) record: Record,
    /// Of the last record: there is no telling but by the length of the log.
    pub(super) end: u64,
}

impl Index {
    /// The index in `file`.
    ///
    /// # Errors
    /// Those of reading, and one for a file that is no index.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut header = [0; RECORD_BYTES];
        file.read_exact_at(&mut header, 0)?;
        match decode_header(header) {
            Some(_) => Ok(Index {
                file,
                block: (0, Vec::new()),
                place: 0,
            }),
            None => Err(damaged("the index is of another format")),
        }
    }

    /// The number of the record whose range holds `offset`, or of the last one before.
    pub(super) fn find(&mut self, offset: u64) -> io::Result<u64> {
        if let Some(run) = self.look(self.place)?
            && run.record.offset <= offset
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
        let next = self.record(number + 1)?;
        let end = next.map_or(u64::MAX, |next| next.offset);
        if end < record.offset {
            Err(damaged("the index goes backwards"))
        } else {
            Ok(Some(Run { record, end }))
        }
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
