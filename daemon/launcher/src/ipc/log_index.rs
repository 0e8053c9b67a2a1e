//! The index beside a log: which bytes of it came from which stream, and when.
//!
//! `<id>.log` holds the command's bytes in the order of arrival and nothing else. `<id>.idx` begins
//! with a header and goes on with records, all of [`RECORD_BYTES`]. A record of a stream says:
//! *from this offset of the log on, until the offset of the next record of a stream, the bytes are
//! of this stream; the first arrived at this time*. It is appended **before** its bytes are, so
//! every byte found in a log belongs to the last such record at or before it, also while the
//! command runs and after a crash. A record whose bytes never came names an empty range; a torn one
//! at the end is ignored.
//!
//! Other kinds of records mark an event at an offset of the log and leave the ranges around them as
//! they are; a reader skips the kinds that it does not know. Offsets never decrease from record to
//! record.
//!
//! Because lengths are implied, consecutive output of one stream needs no new record, and the index
//! is never rewritten. [`RecordPlan`] decides when a record is due.
//!
//! ```text
//! header   magic "escher\0\x0a" (8 bytes)  start of the command, µs since 1970 (i64, little endian)
//! record   time since start, µs (u64, little endian)  offset | kind << 56 (u64, little endian)
//! ```

use escher_protocol::{OutputStream, Timestamp};

/// Length of the header and of each record, in bytes.
pub const RECORD_BYTES: usize = 16;

/// Version of the format, the last byte of the magic number.
pub const FORMAT_VERSION: u8 = 10;

/// The first bytes of an index.
pub const MAGIC: [u8; 8] = *b"escher\0\x0a";

/// Output of one stream within this time of the last record shares it, in microseconds.
pub const TIME_RESOLUTION_US: u64 = 1_000;

/// How much longer than its log an index may become through records for times alone, in bytes. (A
/// change of stream is always recorded: the order of arrival is worth more than the space.)
pub const TIME_ALLOWANCE_BYTES: u64 = 64 * 1024;

const KIND_SHIFT: u32 = 56;

/// Greatest offset that a record can name.
pub const MAX_OFFSET: u64 = (1 << KIND_SHIFT) - 1;

/// What a record says about its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Bytes of this stream begin here.
    Output(OutputStream),
    /// An attempt to run the command begins.
    AttemptBegins,
    /// The command's terminal has been resized.
    TerminalResized,
    /// Output was dropped here.
    BytesMissing,
    /// The log before this offset has been deleted.
    Forgotten,
    /// A kind that this version does not know.
    Unknown(u8),
}

impl RecordKind {
    /// Returns the stream whose bytes begin at a record of this kind.
    #[must_use]
    pub fn stream(self) -> Option<OutputStream> {
        match self {
            RecordKind::Output(stream) => Some(stream),
            _ => None,
        }
    }

    fn code(self) -> u8 {
        match self {
            RecordKind::Output(OutputStream::Stdout) => 0,
            RecordKind::Output(OutputStream::Stderr) => 1,
            RecordKind::AttemptBegins => 2,
            RecordKind::TerminalResized => 3,
            RecordKind::BytesMissing => 4,
            RecordKind::Forgotten => 5,
            RecordKind::Unknown(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0 => RecordKind::Output(OutputStream::Stdout),
            1 => RecordKind::Output(OutputStream::Stderr),
            2 => RecordKind::AttemptBegins,
            3 => RecordKind::TerminalResized,
            4 => RecordKind::BytesMissing,
            5 => RecordKind::Forgotten,
            code => RecordKind::Unknown(code),
        }
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where in the log it applies, at most [`MAX_OFFSET`].
    pub offset: u64,
    /// What it says.
    pub kind: RecordKind,
    /// When that was, in microseconds since the command's start.
    pub time_us: u64,
}

impl Record {
    /// Returns the record that goes before output of `stream`.
    #[must_use]
    pub fn output(offset: u64, stream: OutputStream, time_us: u64) -> Self {
        Record {
            offset,
            kind: RecordKind::Output(stream),
            time_us,
        }
    }

    /// Returns the bytes on disk.
    #[must_use]
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let offset = self.offset & MAX_OFFSET;
        let kind = u64::from(self.kind.code()) << KIND_SHIFT;
        pair(self.time_us.to_le_bytes(), (offset | kind).to_le_bytes())
    }

    /// Returns the record in these bytes. Any bytes are a record: whether it makes sense shows only
    /// beside its neighbours and the log.
    #[must_use]
    pub fn decode(bytes: [u8; RECORD_BYTES]) -> Self {
        let (time, place) = halves(bytes);
        Record {
            offset: u64::from_le_bytes(place) & MAX_OFFSET,
            kind: RecordKind::from_code(place[7]),
            time_us: u64::from_le_bytes(time),
        }
    }
}

/// A file that is no index, or one of another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The magic number is missing.
    #[error("it is no index of a log")]
    NotAnIndex,
    /// The index was written by another version.
    #[error("it is an index of format version {0}; this version reads {FORMAT_VERSION}")]
    OtherVersion(u8),
}

/// Returns the header of the index of a command that was started at `start`.
#[must_use]
pub fn encode_header(start: Timestamp) -> [u8; RECORD_BYTES] {
    pair(MAGIC, start.as_micros().to_le_bytes())
}

/// Returns the start time in a header.
///
/// # Errors
/// [`HeaderError`] when these bytes are no header of this version.
pub fn decode_header(bytes: [u8; RECORD_BYTES]) -> Result<Timestamp, HeaderError> {
    let (magic, start) = halves(bytes);
    if magic[..7] != MAGIC[..7] {
        return Err(HeaderError::NotAnIndex);
    }
    match magic[7] {
        FORMAT_VERSION => Ok(Timestamp::from_micros(i64::from_le_bytes(start))),
        other => Err(HeaderError::OtherVersion(other)),
    }
}

fn pair(first: [u8; 8], second: [u8; 8]) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&first);
    bytes[8..].copy_from_slice(&second);
    bytes
}

fn halves(bytes: [u8; RECORD_BYTES]) -> ([u8; 8], [u8; 8]) {
    let (mut first, mut second) = ([0; 8], [0; 8]);
    first.copy_from_slice(&bytes[..8]);
    second.copy_from_slice(&bytes[8..]);
    (first, second)
}

/// Decides when a writer has to append a record. Pure.
#[derive(Debug, Default)]
pub struct RecordPlan {
    /// Stream and time of the last record.
    last: Option<(OutputStream, u64)>,
    records: u64,
}

impl RecordPlan {
    /// Returns the record to append before bytes of `stream` that arrive at `time_us` and will
    /// stand at `offset` of the log; `None` if the last one covers them. Call
    /// [`RecordPlan::appended`] once the record is on disk.
    #[must_use]
    pub fn due(&self, offset: u64, stream: OutputStream, time_us: u64) -> Option<Record> {
        let record = Record::output(offset, stream, time_us);
        match self.last {
            Some((last_stream, last_time_us)) if last_stream == stream => {
                let index_bytes = (self.records + 2) * RECORD_BYTES as u64;
                let affordable = index_bytes <= offset + TIME_ALLOWANCE_BYTES;
                let late = time_us >= last_time_us + TIME_RESOLUTION_US;
                (late && affordable).then_some(record)
            }
            _ => Some(record),
        }
    }

    /// Notes that `record` is on disk.
    pub fn appended(&mut self, record: Record) {
        if let Some(stream) = record.kind.stream() {
            self.last = Some((stream, record.time_us));
        }
        self.records += 1;
    }

    /// Returns how many records are on disk.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};
    use proptest::prelude::*;

    #[test]
    fn bytes_on_disk_are_frozen() {
        let record = |kind| Record {
            offset: 0x0102,
            kind,
            time_us: 0x0304,
        };
        let kinds = [
            RecordKind::Output(Stdout),
            RecordKind::Output(Stderr),
            RecordKind::AttemptBegins,
            RecordKind::TerminalResized,
            RecordKind::BytesMissing,
            RecordKind::Forgotten,
        ];
        for (code, kind) in (0..).zip(kinds) {
            assert_eq!(
                record(kind).encode(),
                [4, 3, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, code]
            );
        }
        assert_eq!(
            encode_header(Timestamp::from_micros(0x0506)),
            *b"escher\0\x0a\x06\x05\0\0\0\0\0\0"
        );
    }

    #[test]
    fn a_header_of_another_version_is_refused_by_number() {
        let mut header = encode_header(Timestamp::from_micros(5));
        assert_eq!(decode_header(header), Ok(Timestamp::from_micros(5)));
        for version in [1, 9, 11, 255] {
            header[7] = version;
            assert_eq!(
                decode_header(header),
                Err(HeaderError::OtherVersion(version))
            );
        }
        let message = HeaderError::OtherVersion(1).to_string();
        assert!(
            message.contains("version 1;") && message.contains("10"),
            "{message}"
        );
        assert_eq!(
            decode_header([7; RECORD_BYTES]),
            Err(HeaderError::NotAnIndex)
        );
    }

    proptest! {
        #[test]
        fn decodes_what_it_encodes(offset in 0..=MAX_OFFSET, time_us: u64, code: u8) {
            let record = Record { offset, kind: RecordKind::from_code(code), time_us };
            prop_assert_eq!(Record::decode(record.encode()), record);
        }

        #[test]
        fn the_index_of_one_stream_stays_within_the_allowance(writes in prop::collection::vec((1u64..64, 0u64..5_000), 0..20_000)) {
            let (mut plan, mut offset, mut now) = (RecordPlan::default(), 0, 0);
            for (length, pause) in writes {
                now += pause;
                if let Some(record) = plan.due(offset, Stdout, now) {
                    plan.appended(record);
                }
                offset += length;
                let index_bytes = (plan.records() + 1) * RECORD_BYTES as u64;
                prop_assert!(index_bytes <= offset + TIME_ALLOWANCE_BYTES);
            }
        }
    }

    #[test]
    fn every_change_of_stream_is_recorded() {
        let mut plan = RecordPlan::default();
        for offset in 0..100_000 {
            let stream = if offset % 2 == 0 { Stdout } else { Stderr };
            let record = plan.due(offset, stream, 0);
            assert!(record.is_some(), "at {offset}");
            plan.appended(record.unwrap());
        }
    }
}
