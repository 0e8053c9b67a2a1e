//! The index beside a log: which bytes of it came from which stream, when, and which are missing.
//!
//! `<id>.log` holds the command's bytes in the order of arrival and nothing else. `<id>.idx` begins
//! with a header of [`HEADER_BYTES`] and goes on with records of [`RECORD_BYTES`]. A record of a
//! stream says: *from this offset of the log on, until the offset of the next record of a stream,
//! the bytes are of this stream; the first arrived at this time*. It is appended **before** its
//! bytes are, so every byte found in a log belongs to the last such record at or before it, also
//! while the command runs and after a crash. A record whose bytes never came names an empty range; a
//! torn one at the end is ignored.
//!
//! Other kinds of records mark an event at an offset of the log and leave the ranges around them as
//! they are; a reader skips the kinds that it does not know. Offsets never decrease from record to
//! record.
//!
//! Because lengths are implied, consecutive output of one stream needs no new record.
//! [`RecordPlan`] decides when a record is due. Records are never rewritten; the one place that is,
//! is the header's [mark](encode_mark). It says up to which offset the log was forgotten. The bytes
//! below it, and the records for them alone, may have become holes, which read as zeros. So a reader
//! reads what it wants first and the mark **after** that, and drops what lies below the mark.
//!
//! Where output was dropped there are two records of [`RecordKind::BytesMissing`] at one offset: how
//! many bytes the command's log lacked before, and after. The second is missing while output is
//! still being dropped, and where none came after it.
//!
//! ```text
//! header   magic "escher\0\x0a" (8 bytes)  start of the command, µs since 1970 (i64, little endian)
//! mark     forgotten up to this offset (u64, little endian)  its complement (u64, little endian)
//! record   time since start, µs (u64, little endian)  offset | kind << 56 (u64, little endian)
//! ```

use escher_protocol::{OutputStream, Timestamp};

/// Length of each record, and of both halves of the header, in bytes.
pub const RECORD_BYTES: usize = 16;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 2 * RECORD_BYTES;

/// Where the mark is in the index.
pub const MARK_OFFSET: u64 = RECORD_BYTES as u64;

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
    /// Output was dropped here. The record's value is the number of bytes that had been dropped in
    /// all when it was written, instead of a time.
    BytesMissing,
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
    /// When that was, in microseconds since the command's start; of
    /// [`RecordKind::BytesMissing`] a number of bytes.
    pub value: u64,
}

impl Record {
    /// Returns the record that goes before output of `stream`.
    #[must_use]
    pub fn output(offset: u64, stream: OutputStream, time_us: u64) -> Self {
        Record {
            offset,
            kind: RecordKind::Output(stream),
            value: time_us,
        }
    }

    /// Returns the record at the beginning or end of missing output. `dropped_bytes` counts all
    /// bytes that the command's log lacks by then.
    #[must_use]
    pub fn missing(offset: u64, dropped_bytes: u64) -> Self {
        Record {
            offset,
            kind: RecordKind::BytesMissing,
            value: dropped_bytes,
        }
    }

    /// Returns the bytes on disk.
    #[must_use]
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let offset = self.offset & MAX_OFFSET;
        let kind = u64::from(self.kind.code()) << KIND_SHIFT;
        pair(self.value.to_le_bytes(), (offset | kind).to_le_bytes())
    }

    /// Returns the record in these bytes. Any bytes are a record: whether it makes sense shows only
    /// beside its neighbours and the log.
    #[must_use]
    pub fn decode(bytes: [u8; RECORD_BYTES]) -> Self {
        let (value, place) = halves(bytes);
        Record {
            offset: u64::from_le_bytes(place) & MAX_OFFSET,
            kind: RecordKind::from_code(place[7]),
            value: u64::from_le_bytes(value),
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

/// Returns the header of the index of a command that was started at `start`. Nothing is forgotten.
#[must_use]
pub fn encode_header(start: Timestamp) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..RECORD_BYTES].copy_from_slice(&pair(MAGIC, start.as_micros().to_le_bytes()));
    header[RECORD_BYTES..].copy_from_slice(&encode_mark(0));
    header
}

/// Returns the mark that the log was forgotten up to the offset `up_to`. It stands at
/// [`MARK_OFFSET`].
#[must_use]
pub fn encode_mark(up_to: u64) -> [u8; RECORD_BYTES] {
    pair(up_to.to_le_bytes(), (!up_to).to_le_bytes())
}

/// Returns the offset in a mark; `None` if this is none: it is being rewritten, or damaged.
#[must_use]
pub fn decode_mark(bytes: [u8; RECORD_BYTES]) -> Option<u64> {
    let (up_to, complement) = halves(bytes);
    let up_to = u64::from_le_bytes(up_to);
    (up_to == !u64::from_le_bytes(complement)).then_some(up_to)
}

/// Returns the start time in the first half of a header.
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
#[derive(Debug, Clone, Default)]
pub struct RecordPlan {
    /// Stream and time of the last record of a stream; `None` where the next output needs one.
    last: Option<(OutputStream, u64)>,
    /// Number of the last record of a stream.
    last_output: u64,
    records: u64,
}

/// A record that a writer is to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRecord {
    /// The record.
    pub record: Record,
    /// Whether it is for the time alone: without it the bytes are still of the right stream.
    pub for_time_alone: bool,
}

impl RecordPlan {
    /// Returns the record to append before bytes of `stream` that arrive at `time_us` and will
    /// stand at `offset` of the log; `None` if the last one covers them. Call
    /// [`RecordPlan::appended`] once the record is on disk.
    #[must_use]
    pub fn due(&self, offset: u64, stream: OutputStream, time_us: u64) -> Option<DueRecord> {
        let record = Record::output(offset, stream, time_us);
        match self.last {
            Some((last_stream, last_time_us)) if last_stream == stream => {
                let index_bytes = HEADER_BYTES as u64 + (self.records + 1) * RECORD_BYTES as u64;
                let affordable = index_bytes <= offset + TIME_ALLOWANCE_BYTES;
                let late = time_us >= last_time_us + TIME_RESOLUTION_US;
                (late && affordable).then_some(DueRecord {
                    record,
                    for_time_alone: true,
                })
            }
            _ => Some(DueRecord {
                record,
                for_time_alone: false,
            }),
        }
    }

    /// Notes that `record` is on disk. Output after missing output gets a record of its own.
    pub fn appended(&mut self, record: Record) {
        match record.kind {
            RecordKind::Output(stream) => {
                self.last = Some((stream, record.value));
                self.last_output = self.records;
            }
            RecordKind::BytesMissing => self.last = None,
            _ => {}
        }
        self.records += 1;
    }

    /// Returns the length of the index with all records that are on disk.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.records * RECORD_BYTES as u64
    }

    /// Returns where the last record of a stream is in the index. It names the stream of the bytes
    /// at the end of the log, unless another is due.
    #[must_use]
    pub fn last_output_at(&self) -> u64 {
        HEADER_BYTES as u64 + self.last_output * RECORD_BYTES as u64
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
            value: 0x0304,
        };
        let kinds = [
            RecordKind::Output(Stdout),
            RecordKind::Output(Stderr),
            RecordKind::AttemptBegins,
            RecordKind::TerminalResized,
            RecordKind::BytesMissing,
        ];
        for (code, kind) in (0..).zip(kinds) {
            assert_eq!(
                record(kind).encode(),
                [4, 3, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, code]
            );
        }
        assert_eq!(
            encode_header(Timestamp::from_micros(0x0506)),
            *b"escher\0\x0a\x06\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"
        );
        assert_eq!(
            encode_mark(0x0708),
            *b"\x08\x07\0\0\0\0\0\0\xf7\xf8\xff\xff\xff\xff\xff\xff"
        );
    }

    #[test]
    fn a_mark_that_is_half_rewritten_is_none() {
        assert_eq!(decode_mark(encode_mark(7)), Some(7));
        let (old, new) = (encode_mark(0x0706), encode_mark(0x1716));
        for written in 1..RECORD_BYTES {
            let mut torn = old;
            torn[..written].copy_from_slice(&new[..written]);
            let expected = (written >= 10).then_some(0x1716);
            assert_eq!(decode_mark(torn), expected, "{written} bytes");
        }
        assert_eq!(decode_mark([0; RECORD_BYTES]), None, "a hole");
    }

    #[test]
    fn a_header_of_another_version_is_refused_by_number() {
        let header = encode_header(Timestamp::from_micros(5));
        let mut header: [u8; RECORD_BYTES] = header[..RECORD_BYTES].try_into().unwrap();
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
        fn decodes_what_it_encodes(offset in 0..=MAX_OFFSET, value: u64, code: u8) {
            let record = Record { offset, kind: RecordKind::from_code(code), value };
            prop_assert_eq!(Record::decode(record.encode()), record);
            prop_assert_eq!(decode_mark(encode_mark(value)), Some(value));
        }

        #[test]
        fn the_index_of_one_stream_stays_within_the_allowance(writes in prop::collection::vec((1u64..64, 0u64..5_000), 0..20_000)) {
            let (mut plan, mut offset, mut now) = (RecordPlan::default(), 0, 0);
            for (length, pause) in writes {
                now += pause;
                if let Some(due) = plan.due(offset, Stdout, now) {
                    plan.appended(due.record);
                }
                offset += length;
                prop_assert!(plan.index_bytes() <= offset + TIME_ALLOWANCE_BYTES);
            }
        }
    }

    #[test]
    fn every_change_of_stream_is_recorded() {
        let mut plan = RecordPlan::default();
        for offset in 0..100_000 {
            let stream = if offset % 2 == 0 { Stdout } else { Stderr };
            let due = plan.due(offset, stream, 0).unwrap();
            assert!(!due.for_time_alone, "at {offset}");
            plan.appended(due.record);
            assert_eq!(plan.last_output_at() + 16, plan.index_bytes());
        }
    }

    #[test]
    fn output_after_missing_output_has_a_record_of_its_own() {
        let mut plan = RecordPlan::default();
        plan.appended(Record::output(0, Stdout, 0));
        assert_eq!(plan.due(5, Stdout, 0), None);
        assert!(plan.due(5, Stdout, 1_000).unwrap().for_time_alone);
        plan.appended(Record::missing(5, 0));
        let due = plan.due(5, Stdout, 0).unwrap();
        assert_eq!(due.record, Record::output(5, Stdout, 0));
        assert!(!due.for_time_alone);
        assert_eq!(plan.last_output_at(), HEADER_BYTES as u64);
    }
}
