//! The index beside a log: which bytes of it came from which stream, and when.
//!
//! `<id>.log` holds the command's bytes in the order of arrival and nothing else. `<id>.idx` begins with
//! a header and goes on with records, all of [`RECORD_BYTES`]. A record says: *from this offset of the log
//! on, until the next record's offset, the bytes are of this stream; the first arrived at this time*. It is
//! appended **before** its bytes are, so every byte found in a log belongs to the last record at or before
//! it, also while the command runs and after a crash. A record whose bytes never came names an empty
//! range; a torn one at the end is ignored.
//!
//! Because lengths are implied, consecutive output of one stream needs no new record, and the index is
//! never rewritten. [`Plan`] decides when a record is due.
//!
//! ```text
//! header   magic "escher\0\x01" (8 bytes)   start of the command, µs since 1970 (i64, little endian)
//! record   time since start, µs (u64, little endian)   offset | stream << 63 (u64, little endian)
//! ```

use escher_protocol::{OutputStream, Timestamp};

/// Length of the header and of each record, in bytes.
pub const RECORD_BYTES: usize = 16;

/// The first bytes of an index; the last of them is the format's version.
pub const MAGIC: [u8; 8] = *b"escher\0\x01";

/// Output of one stream within this time of the last record shares it, in microseconds.
pub const TIME_RESOLUTION_US: u64 = 1_000;

/// What the index of a log may be longer than the log by, in bytes, on the account of times. (A change of
/// stream is always recorded: the order of arrival is worth more than the room.)
pub const TIME_ALLOWANCE_BYTES: u64 = 64 * 1024;

const STDERR_BIT: u64 = 1 << 63;

/// One change of stream or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where in the log it begins.
    pub offset: u64,
    /// Whose bytes follow.
    pub stream: OutputStream,
    /// When the first of them arrived, in microseconds since the command's start.
    pub time_us: u64,
}

impl Record {
    /// The bytes on disk.
    #[must_use]
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let tag = match self.stream {
            OutputStream::Stdout => 0,
            OutputStream::Stderr => STDERR_BIT,
        };
        pair(
            self.time_us.to_le_bytes(),
            (self.offset | tag).to_le_bytes(),
        )
    }

    /// The record in these bytes. Any bytes are some record: whether it makes sense shows only beside
    /// its neighbours and the log.
    #[must_use]
    pub fn decode(bytes: [u8; RECORD_BYTES]) -> Self {
        let (time, place) = halves(bytes);
        let place = u64::from_le_bytes(place);
        Record {
            offset: place & !STDERR_BIT,
            stream: match place & STDERR_BIT {
                0 => OutputStream::Stdout,
                _ => OutputStream::Stderr,
            },
            time_us: u64::from_le_bytes(time),
        }
    }
}

/// The header of the index of a command that was started at `start`.
#[must_use]
pub fn encode_header(start: Timestamp) -> [u8; RECORD_BYTES] {
    pair(MAGIC, start.as_micros().to_le_bytes())
}

/// The start time in a header; `None` if these bytes are none of this version.
#[must_use]
pub fn decode_header(bytes: [u8; RECORD_BYTES]) -> Option<Timestamp> {
    let (magic, start) = halves(bytes);
    (magic == MAGIC).then(|| Timestamp::from_micros(i64::from_le_bytes(start)))
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

/// Decides for a writer when a record is due. Pure.
#[derive(Debug, Default)]
pub struct Plan {
    last: Option<Record>,
    records: u64,
}

impl Plan {
    /// The record to append before bytes of `stream` that arrive at `time_us` and will stand at `offset`
    /// of the log; `None` if the last one covers them. Call [`Plan::appended`] once it is on disk.
    #[must_use]
    pub fn due(&self, offset: u64, stream: OutputStream, time_us: u64) -> Option<Record> {
        let record = Record {
            offset,
            stream,
            time_us,
        };
        match self.last {
            Some(last) if last.stream == stream => {
                let index_bytes = (self.records + 2) * RECORD_BYTES as u64;
                let affordable = index_bytes <= offset + TIME_ALLOWANCE_BYTES;
                let late = time_us >= last.time_us + TIME_RESOLUTION_US;
                (late && affordable).then_some(record)
            }
            _ => Some(record),
        }
    }

    /// `record` is on disk.
    pub fn appended(&mut self, record: Record) {
        self.last = Some(record);
        self.records += 1;
    }

    /// How many records are on disk.
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
        let record = Record {
            offset: 0x0102,
            stream: Stderr,
            time_us: 0x0304,
        };
        assert_eq!(
            record.encode(),
            [4, 3, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0x80]
        );
        assert_eq!(
            encode_header(Timestamp::from_micros(0x0506)),
            *b"escher\0\x01\x06\x05\0\0\0\0\0\0"
        );
        assert_eq!(decode_header([7; RECORD_BYTES]), None);
    }

    proptest! {
        #[test]
        fn records_survive_the_disk(offset in 0..STDERR_BIT, time_us: u64, stderr: bool) {
            let stream = if stderr { Stderr } else { Stdout };
            let record = Record { offset, stream, time_us };
            prop_assert_eq!(Record::decode(record.encode()), record);
        }

        /// However one stream writes, its index stays within the log's length plus the allowance.
        #[test]
        fn one_stream_never_outgrows_its_log(writes in prop::collection::vec((1u64..64, 0u64..5_000), 0..20_000)) {
            let (mut plan, mut offset, mut now) = (Plan::default(), 0, 0);
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
        let mut plan = Plan::default();
        for offset in 0..100_000 {
            let stream = if offset % 2 == 0 { Stdout } else { Stderr };
            let record = plan.due(offset, stream, 0);
            assert!(record.is_some(), "at {offset}");
            plan.appended(record.unwrap());
        }
    }
}
