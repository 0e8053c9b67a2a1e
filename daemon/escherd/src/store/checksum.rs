//! Blobs with checksums, by which damage to a row is noticed.
//!
//! SQLite notices damage to its structure, not to what a row says. A blob is a checksum of 8 bytes,
//! the version of its encoding, and the encoded value. The checksum also covers the kind and the
//! number of the blob, so that a blob in the wrong row counts as damaged too.

use escher_protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::DatabaseError;

/// Bytes of a checksum: the first ones of a SHA-256. It detects accidents, not forgery.
pub(super) const CHECKSUM_BYTES: usize = 8;

/// The version of the encoding. A later escherd reads this one too.
const ENCODING_VERSION: u8 = 1;

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobKind {
    /// A request as it was accepted.
    Submission,
    /// The progress of an unfinished execution.
    Progress,
    /// A finished execution.
    Record,
    /// An event; its number is its sequence number.
    Event,
    /// The id of a log to delete.
    UndeletedLog,
    /// The row of totals.
    Totals,
    /// The totals of a user; its number is the uid.
    UserTotals,
    /// The last event that a user misses; its number is the uid.
    MissedEvent,
}

impl BlobKind {
    /// Returns the name used in messages.
    const fn name(self) -> &'static str {
        match self {
            BlobKind::Submission => "the submission of execution",
            BlobKind::Progress => "the progress of execution",
            BlobKind::Record => "the record of execution",
            BlobKind::Event => "event",
            BlobKind::UndeletedLog => "a log to be deleted",
            BlobKind::Totals => "the row of totals",
            BlobKind::UserTotals => "the row of totals of user",
            BlobKind::MissedEvent => "the last missed event of user",
        }
    }

    /// Returns the byte that stands for the kind in every checksum on disk. It never changes.
    const fn tag(self) -> u8 {
        match self {
            BlobKind::Submission => 1,
            BlobKind::Progress => 2,
            BlobKind::Record => 3,
            BlobKind::Event => 4,
            BlobKind::UndeletedLog => 5,
            BlobKind::Totals => 6,
            BlobKind::UserTotals => 7,
            BlobKind::MissedEvent => 8,
        }
    }

    /// Returns the error for a damaged blob of this kind.
    pub(super) const fn damaged(self, number: u64) -> DatabaseError {
        DatabaseError::Damaged {
            what: self.name(),
            number,
        }
    }
}

/// Computes the checksum of `bytes` in the row `number`.
pub(super) fn checksum(kind: BlobKind, number: u64, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new()
        .chain_update([kind.tag()])
        .chain_update(number.to_le_bytes())
        .chain_update(bytes)
        .finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    for (to, from) in checksum.iter_mut().zip(hash.iter()) {
        *to = *from;
    }
    checksum
}

/// Encodes `value` as a blob for the row `number`.
pub(super) fn encode<T: Serialize>(
    kind: BlobKind,
    number: u64,
    value: &T,
) -> Result<Vec<u8>, DatabaseError> {
    let mut payload = vec![ENCODING_VERSION];
    payload.extend(codec::encode(value)?);
    let mut blob = checksum(kind, number, &payload).to_vec();
    blob.append(&mut payload);
    Ok(blob)
}

/// Decodes a blob of the row `number`.
pub(super) fn decode<T: DeserializeOwned>(
    kind: BlobKind,
    number: u64,
    blob: &[u8],
) -> Result<T, DatabaseError> {
    let damaged = || kind.damaged(number);
    let (found, payload) = blob.split_at_checked(CHECKSUM_BYTES).ok_or_else(damaged)?;
    if *found != checksum(kind, number, payload) {
        return Err(damaged());
    }
    match payload.split_first() {
        Some((&ENCODING_VERSION, body)) => codec::decode(body).map_err(|_| damaged()),
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_every_flipped_bit_and_every_truncation() {
        let blob = encode(BlobKind::Event, 7, &("text", 12u32)).unwrap();
        let value: (String, u32) = decode(BlobKind::Event, 7, &blob).unwrap();
        assert_eq!(value, ("text".to_owned(), 12));
        let fails =
            |kind, number, blob: &[u8]| decode::<(String, u32)>(kind, number, blob).is_err();
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(fails(BlobKind::Event, 7, &flipped), "bit {bit}");
        }
        for length in 0..blob.len() {
            assert!(fails(BlobKind::Event, 7, &blob[..length]), "{length} bytes");
        }
        assert!(fails(BlobKind::Event, 8, &blob), "with another number");
        assert!(fails(BlobKind::Record, 7, &blob), "as another kind");
    }

    /// A checksum on disk must mean the same to every later version.
    #[test]
    fn checksums_never_change() {
        let blob = encode(BlobKind::Record, 1, &"x").unwrap();
        let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "cce1aa69b3b6bf34010178");
    }
}
