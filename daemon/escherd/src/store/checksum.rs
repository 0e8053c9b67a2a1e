//! Values in blobs that tell whether they are still what was written.
//!
//! SQLite notices damage to its structure, not to what a row says. A blob is a seal of 8 bytes, the version of
//! its encoding, and the encoded value; the seal covers what the blob is and where it belongs as well, so
//! that a row that ends up in another's place counts as damaged too.

use escher_protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::DatabaseError;

/// Bytes of a seal: the first ones of a SHA-256. It is to find accidents, not forgers.
pub(super) const SEAL_BYTES: usize = 8;

/// The version of the encoding. A later one reads this one too.
const ENCODING: u8 = 1;

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What was taken on.
    Submission,
    /// How far an execution has come that is not finished.
    Progress,
    /// A finished execution.
    Record,
    /// An event; its place is its sequence number.
    Event,
    /// The id of a log that is to be deleted.
    Undeleted,
    /// The row of totals.
    Totals,
}

impl Kind {
    /// For people.
    const fn name(self) -> &'static str {
        match self {
            Kind::Submission => "the submission of execution",
            Kind::Progress => "the progress of execution",
            Kind::Record => "the record of execution",
            Kind::Event => "event",
            Kind::Undeleted => "a log to be deleted",
            Kind::Totals => "the row of totals",
        }
    }

    /// Never changes: it is part of every seal on disk.
    const fn tag(self) -> u8 {
        match self {
            Kind::Submission => 1,
            Kind::Progress => 2,
            Kind::Record => 3,
            Kind::Event => 4,
            Kind::Undeleted => 5,
            Kind::Totals => 6,
        }
    }

    /// The fault of a blob of this kind.
    pub(super) const fn damaged(self, place: u64) -> DatabaseError {
        DatabaseError::Damaged {
            what: self.name(),
            place,
        }
    }
}

/// The seal of `bytes` that belong to `place`.
pub(super) fn seal(kind: Kind, place: u64, bytes: &[u8]) -> [u8; SEAL_BYTES] {
    let hash = Sha256::new()
        .chain_update([kind.tag()])
        .chain_update(place.to_le_bytes())
        .chain_update(bytes)
        .finalize();
    let mut seal = [0; SEAL_BYTES];
    for (to, from) in seal.iter_mut().zip(hash.iter()) {
        *to = *from;
    }
    seal
}

/// `value` as a blob for `place`.
pub(super) fn wrap<T: Serialize>(
    kind: Kind,
    place: u64,
    value: &T,
) -> Result<Vec<u8>, DatabaseError> {
    let mut sealed = vec![ENCODING];
    sealed.extend(codec::encode(value)?);
    let mut blob = seal(kind, place, &sealed).to_vec();
    blob.append(&mut sealed);
    Ok(blob)
}

/// What [`wrap`] has made a blob of.
pub(super) fn unwrap<T: DeserializeOwned>(
    kind: Kind,
    place: u64,
    blob: &[u8],
) -> Result<T, DatabaseError> {
    let damaged = || kind.damaged(place);
    let (found, sealed) = blob.split_at_checked(SEAL_BYTES).ok_or_else(damaged)?;
    if *found != seal(kind, place, sealed) {
        return Err(damaged());
    }
    match sealed.split_first() {
        Some((&ENCODING, body)) => codec::decode(body).map_err(|_| damaged()),
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let blob = wrap(Kind::Event, 7, &("text", 12u32)).unwrap();
        let value: (String, u32) = unwrap(Kind::Event, 7, &blob).unwrap();
        assert_eq!(value, ("text".to_owned(), 12));
        let fails = |kind, place, blob: &[u8]| unwrap::<(String, u32)>(kind, place, blob).is_err();
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(fails(Kind::Event, 7, &flipped), "bit {bit}");
        }
        for length in 0..blob.len() {
            assert!(fails(Kind::Event, 7, &blob[..length]), "{length} bytes");
        }
        assert!(fails(Kind::Event, 8, &blob), "in another place");
        assert!(fails(Kind::Record, 7, &blob), "as something else");
    }

    /// The seal of a blob on disk must mean the same to every later version.
    #[test]
    fn seals_are_for_ever() {
        let blob = wrap(Kind::Record, 1, &"x").unwrap();
        let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "cce1aa69b3b6bf34010178");
    }
}
