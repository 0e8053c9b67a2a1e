//! The records of a journal.
//!
//! A record is the length of its body (u32), the CRC-32 of everything after these eight bytes (u32), the sequence
//! number (u64) and the body: the encoded change with its events. Numbers are little endian.

use std::io;

use bytes::BytesMut;
use escher_protocol::codec;
use escher_protocol::message::Event;

use crate::store::{Change, ChangeEntry, DroppedEvent};

/// Bytes of a record before its body.
const HEAD_BYTES: usize = 16;

/// Bytes of a head before what the checksum covers.
const CHECKED_FROM: usize = 8;

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChangeRecord {
    pub(super) sequence: u64,
    pub(super) body: Vec<u8>,
}

/// Encodes records.
#[derive(Debug)]
pub(super) struct RecordWriter {
    buffer: BytesMut,
    first_sequence: u64,
    count: usize,
}

impl RecordWriter {
    /// Begins with the record `first_sequence`.
    pub(super) fn new(first_sequence: u64) -> Self {
        RecordWriter {
            buffer: BytesMut::new(),
            first_sequence,
            count: 0,
        }
    }

    /// Adds a record. Returns `false`, and adds none, if its body would have more than `max_bytes`.
    pub(super) fn add(&mut self, entry: &ChangeEntry, max_bytes: usize) -> io::Result<bool> {
        let start = self.buffer.len();
        self.buffer.resize(start + HEAD_BYTES, 0);
        let content = (&entry.change, &entry.events, &entry.dropped_events);
        codec::encode_into(&content, &mut self.buffer).map_err(io::Error::other)?;
        let body_bytes = self.buffer.len() - start - HEAD_BYTES;
        let length = u32::try_from(body_bytes)
            .ok()
            .filter(|_| body_bytes <= max_bytes);
        let Some(length) = length else {
            self.buffer.truncate(start);
            return Ok(false);
        };
        let sequence = self.first_sequence + self.count as u64;
        let (head, _) = self.buffer[start..].split_at_mut(HEAD_BYTES);
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[CHECKED_FROM..].copy_from_slice(&sequence.to_le_bytes());
        let checksum = crc32fast::hash(&self.buffer[start + CHECKED_FROM..]);
        self.buffer[start + 4..start + CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
        self.count += 1;
        Ok(true)
    }

    /// Returns how many records there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the sequence number of the last record, or the one before the first if there is none.
    pub(super) fn last_sequence(&self) -> u64 {
        self.first_sequence + self.count as u64 - 1
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}

/// Reads the record at the beginning of `bytes`, and returns it with the rest; `None` if there is no whole one.
pub(super) fn read(bytes: &[u8]) -> Option<(ChangeRecord, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [length, checksum] = [0, 4].map(|at| {
        let field = head[at..].first_chunk().copied().unwrap_or_default();
        u32::from_le_bytes(field)
    });
    let sequence = head.last_chunk().copied().map(u64::from_le_bytes)?;
    let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let checked = &bytes[CHECKED_FROM..HEAD_BYTES + body.len()];
    (crc32fast::hash(checked) == checksum).then(|| {
        let body = body.to_owned();
        (ChangeRecord { sequence, body }, rest)
    })
}

impl ChangeRecord {
    /// Decodes the change, with the ticket 0.
    ///
    /// # Errors
    /// When the body is not a change.
    pub(super) fn decode(&self) -> Result<ChangeEntry, codec::CodecError> {
        let (change, events, dropped_events): (Change, Vec<Event>, Vec<DroppedEvent>) =
            codec::decode(&self.body)?;
        Ok(ChangeEntry {
            ticket: 0,
            change,
            events,
            dropped_events,
        })
    }
}
