//! A log and its index, read.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use escher_launcher::index::{RECORD_BYTES, Record, decode_header};
use escher_protocol::output::MAX_CHUNK_BYTES;
use escher_protocol::{OutputChunk, StreamSelection};
use nix::fcntl::OFlag;

use super::Batch;

/// Most chunks of one batch: a command that changes its stream with every byte makes many small ones.
const MAX_BATCH_CHUNKS: usize = 1024;

/// Bytes looked at once when lines are counted from the end.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// Both files, open.
#[derive(Debug)]
pub(super) struct LogFiles {
    log: File,
    index: File,
    /// The record that the last read ended in, to go on from there.
    place: u64,
}

/// A record and where its range ends.
#[derive(Debug, Clone, Copy)]
struct Run {
    record: Record,
    end: u64,
}

impl LogFiles {
    /// Opens the log at `path` and its index; `None` where there is no log (yet).
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
        // The index is made before the log, so it is there.
        let index = open(&path.with_extension("idx"))?;
        let mut header = [0; RECORD_BYTES];
        index.read_exact_at(&mut header, 0)?;
        match decode_header(header) {
            Some(_) => Ok(Some(LogFiles {
                log,
                index,
                place: 0,
            })),
            None => Err(damaged("the index is of another format")),
        }
    }

    pub(super) fn length(&mut self) -> io::Result<u64> {
        Ok(self.log.metadata()?.len())
    }

    /// Chunks of `streams` from `offset` on, within one frame's worth of bytes and before `end`.
    pub(super) fn read(
        &mut self,
        streams: StreamSelection,
        offset: u64,
        end: u64,
    ) -> io::Result<Batch> {
        let mut place = self.find(offset)?;
        let mut batch = Batch {
            chunks: Vec::new(),
            next: offset,
        };
        let mut room = MAX_CHUNK_BYTES;
        while batch.next < end && room > 0 && batch.chunks.len() < MAX_BATCH_CHUNKS {
            let run = self
                .run(place)?
                .ok_or_else(|| damaged("the index is too short"))?;
            let stop = run.end.min(end);
            if stop <= batch.next {
                place += 1;
                continue;
            }
            if streams.includes(run.record.stream) {
                let wanted = usize::try_from(stop - batch.next).unwrap_or(usize::MAX);
                let mut data = vec![0; wanted.min(room)];
                self.log.read_exact_at(&mut data, batch.next)?;
                room -= data.len();
                let chunk = OutputChunk {
                    stream: run.record.stream,
                    offset: batch.next,
                    time_us: run.record.time_us,
                    data: data.into(),
                };
                batch.next += chunk.data.len() as u64;
                batch.chunks.push(chunk);
            } else {
                batch.next = stop;
            }
        }
        self.place = place;
        Ok(batch)
    }

    /// Where the last `lines` lines of `streams` before `end` begin. A last line without a newline
    /// counts as one.
    pub(super) fn last_lines(
        &mut self,
        streams: StreamSelection,
        lines: u64,
        end: u64,
    ) -> io::Result<u64> {
        if end == 0 || lines == 0 {
            return Ok(end);
        }
        let (mut left, mut is_last_byte) = (lines, true);
        let mut place = Some(self.find(end - 1)?);
        let mut begin = end;
        while let Some(here) = place {
            let run = self
                .run(here)?
                .ok_or_else(|| damaged("the index is too short"))?;
            let mut stop = run.end.min(end);
            while streams.includes(run.record.stream) && stop > run.record.offset {
                let from = stop.saturating_sub(TAIL_BLOCK_BYTES).max(run.record.offset);
                let mut block = vec![0; usize::try_from(stop - from).unwrap_or(0)];
                self.log.read_exact_at(&mut block, from)?;
                for (index, byte) in block.iter().enumerate().rev() {
                    let ends_the_last_line = std::mem::take(&mut is_last_byte);
                    if *byte == b'\n' && !ends_the_last_line {
                        left -= 1;
                        if left == 0 {
                            return Ok(from + index as u64 + 1);
                        }
                    }
                }
                stop = from;
                begin = from;
            }
            place = here.checked_sub(1);
        }
        Ok(begin)
    }

    /// The number of the record whose range holds `offset`, or of the last one before.
    fn find(&self, offset: u64) -> io::Result<u64> {
        if let Some(run) = self.run(self.place)?
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

    fn records(&self) -> io::Result<u64> {
        let bytes = self.index.metadata()?.len();
        Ok((bytes / RECORD_BYTES as u64).saturating_sub(1))
    }

    fn record(&self, number: u64) -> io::Result<Option<Record>> {
        let mut bytes = [0; RECORD_BYTES];
        match self
            .index
            .read_exact_at(&mut bytes, (number + 1) * RECORD_BYTES as u64)
        {
            Ok(()) => Ok(Some(Record::decode(bytes))),
            // The end, or a torn record.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn run(&self, number: u64) -> io::Result<Option<Run>> {
        let Some(record) = self.record(number)? else {
            return Ok(None);
        };
        let next = self.record(number + 1)?;
        let end = next.map_or(u64::MAX, |next| next.offset);
        match end < record.offset {
            true => Err(damaged("the index goes backwards")),
            false => Ok(Some(Run { record, end })),
        }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};
    use escher_launcher::index::encode_header;
    use escher_protocol::OutputStream;
    use escher_protocol::Timestamp;
    use std::io::Write;

    /// A log made of these pieces, one record each.
    fn log(pieces: &[(OutputStream, &str)]) -> (tempfile::TempDir, LogFiles) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = File::create(&path).unwrap();
        let mut index = File::create(path.with_extension("idx")).unwrap();
        index
            .write_all(&encode_header(Timestamp::from_micros(0)))
            .unwrap();
        let mut offset = 0;
        for (number, (stream, text)) in pieces.iter().enumerate() {
            let record = Record {
                offset,
                stream: *stream,
                time_us: number as u64,
            };
            index.write_all(&record.encode()).unwrap();
            log.write_all(text.as_bytes()).unwrap();
            offset += text.len() as u64;
        }
        let files = LogFiles::open(&path).unwrap().unwrap();
        (dir, files)
    }

    fn text(batch: &Batch) -> Vec<(OutputStream, u64, String)> {
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
    fn streams_are_read_together_and_alone_from_any_offset() {
        let (_dir, mut files) = log(&[(Stdout, "abc"), (Stderr, "XY"), (Stdout, "def")]);
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
            (text(&errors), errors.next),
            (vec![(Stderr, 3, "XY".into())], 8)
        );
        let cut = files.read(StreamSelection::Both, 1, 4).unwrap();
        assert_eq!(
            text(&cut),
            [(Stdout, 1, "bc".into()), (Stderr, 3, "X".into())]
        );
    }

    #[test]
    fn last_lines_are_counted_in_the_selected_streams() {
        let (_dir, mut files) = log(&[(Stdout, "a\nb\n"), (Stderr, "E\n"), (Stdout, "c\nd")]);
        let mut start = |streams, lines| files.last_lines(streams, lines, 9).unwrap();
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

    /// What a crash or an accident leaves of an index: whatever it is, reading ends with the bytes of the log
    /// or with an error, and no byte comes from elsewhere.
    #[test]
    fn an_index_that_is_cut_or_changed_anywhere_never_makes_up_output() {
        let whole = [(Stdout, "abc"), (Stderr, "XY"), (Stdout, "def")];
        let (dir, _files) = log(&whole);
        let (path, index) = (dir.path().join("x.log"), dir.path().join("x.idx"));
        let bytes = std::fs::read(&index).unwrap();
        let read = || -> io::Result<String> {
            let mut files = LogFiles::open(&path)?.ok_or(io::ErrorKind::NotFound)?;
            let (mut all, mut offset) = (String::new(), 0);
            while offset < 8 {
                let batch = files.read(StreamSelection::Both, offset, 8)?;
                all.extend(text(&batch).into_iter().map(|chunk| chunk.2));
                assert!(batch.next > offset, "no progress at {offset}");
                offset = batch.next;
            }
            Ok(all)
        };
        for length in 0..=bytes.len() {
            std::fs::write(&index, &bytes[..length]).unwrap();
            assert!(
                read().is_err() || read().unwrap() == "abcXYdef",
                "cut at {length}"
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
    fn a_torn_last_record_is_ignored_and_a_damaged_index_is_an_error() {
        let (dir, mut files) = log(&[(Stdout, "abc"), (Stdout, "def")]);
        let index = File::options()
            .write(true)
            .open(dir.path().join("x.idx"))
            .unwrap();
        index.set_len(3 * RECORD_BYTES as u64 - 1).unwrap();
        let all = files.read(StreamSelection::Both, 0, 6).unwrap();
        assert_eq!(text(&all), [(Stdout, 0, "abcdef".into())]);
        index.set_len(RECORD_BYTES as u64).unwrap();
        assert!(files.read(StreamSelection::Both, 0, 6).is_err());
        index.set_len(3).unwrap();
        assert!(LogFiles::open(&dir.path().join("x.log")).is_err());
        assert!(files.read(StreamSelection::Both, 0, 7).is_err());
    }
}
