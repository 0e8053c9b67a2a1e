//! Tagged parts: how messages grow without a new protocol version.
//!
//! A message that can grow ends in [`Parts`]. A later version adds a field to it as one more part
//! with a tag of its own, whose bytes are the field encoded by itself ([`codec`](crate::codec)). A
//! receiver that does not know a tag still decodes the message, because a part says how long it is.
//!
//! The lowest bit of a tag says what a receiver does with a part that it does not know:
//!
//! | tag | unknown to the receiver |
//! |-|-|
//! | odd | it refuses the message with [`UnsupportedPart`] before it acts on it |
//! | even | it ignores the part and keeps it with the message |
//!
//! A tag has one meaning wherever it occurs and is never used again for another.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::error::{ApiError, ErrorCode};

/// Most parts of one message.
pub const MAX_PARTS: usize = 64;

/// Most bytes in all parts of one message together, tags and lengths not counted.
pub const MAX_PARTS_BYTES: usize = 64 * 1024;

/// A field that a later version has added to a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// What the part means. See [`Part::is_required`] about its lowest bit.
    pub tag: u32,
    /// The value, encoded by itself.
    pub bytes: Blob,
}

impl Part {
    /// Creates a part of this tag and value.
    #[must_use]
    pub fn new(tag: u32, bytes: impl Into<Blob>) -> Self {
        Part {
            tag,
            bytes: bytes.into(),
        }
    }

    /// Returns whether a receiver that does not know the tag must refuse the message: the tag's
    /// lowest bit.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.tag & 1 == 1
    }
}

/// The parts of one message: at most [`MAX_PARTS`] with at most [`MAX_PARTS_BYTES`] in all, each
/// tag once, in ascending order. So equal parts have equal bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// Creates a list without parts.
    #[must_use]
    pub const fn new() -> Self {
        Parts(Vec::new())
    }

    /// Adds `part` behind the others.
    ///
    /// # Errors
    /// [`InvalidParts`] when the tag is not greater than all others or a limit is passed; the parts
    /// are then as before.
    pub fn push(&mut self, part: Part) -> Result<(), InvalidParts> {
        if self.0.last().is_some_and(|last| last.tag >= part.tag) {
            return Err(InvalidParts::Order { tag: part.tag });
        }
        if self.0.len() == MAX_PARTS {
            return Err(InvalidParts::TooMany);
        }
        let bytes: usize = self.0.iter().map(|part| part.bytes.len()).sum();
        if part.bytes.len() > MAX_PARTS_BYTES - bytes {
            return Err(InvalidParts::TooLong);
        }
        self.0.push(part);
        Ok(())
    }

    /// Returns the value of the part with this tag.
    #[must_use]
    pub fn get(&self, tag: u32) -> Option<&[u8]> {
        let index = self.0.binary_search_by_key(&tag, |part| part.tag).ok()?;
        self.0.get(index).map(|part| &*part.bytes)
    }

    /// Returns the parts in the order of their tags.
    pub fn iter(&self) -> std::slice::Iter<'_, Part> {
        self.0.iter()
    }

    /// Returns whether there are no parts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that every part which must be understood has a tag among `known`. To be called before
    /// the message has any effect.
    ///
    /// # Errors
    /// [`UnsupportedPart`] with the first tag that is not.
    pub fn ensure_understood(&self, known: &[u32]) -> Result<(), UnsupportedPart> {
        let unsupported = |part: &&Part| part.is_required() && !known.contains(&part.tag);
        match self.0.iter().find(unsupported) {
            Some(part) => Err(UnsupportedPart { tag: part.tag }),
            None => Ok(()),
        }
    }
}

impl TryFrom<Vec<Part>> for Parts {
    type Error = InvalidParts;

    fn try_from(list: Vec<Part>) -> Result<Self, InvalidParts> {
        let mut parts = Parts::new();
        list.into_iter().try_for_each(|part| parts.push(part))?;
        Ok(parts)
    }
}

impl<'a> IntoIterator for &'a Parts {
    type Item = &'a Part;
    type IntoIter = std::slice::Iter<'a, Part>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartsVisitor;
        impl<'de> Visitor<'de> for PartsVisitor {
            type Value = Parts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("parts with ascending tags")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parts, A::Error> {
                let mut parts = Parts::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part).map_err(serde::de::Error::custom)?;
                }
                Ok(parts)
            }
        }
        deserializer.deserialize_seq(PartsVisitor)
    }
}

/// A list that cannot be the parts of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidParts {
    /// A tag occurs twice or after a greater one.
    #[error("part {tag} is out of order")]
    Order {
        /// The tag.
        tag: u32,
    },
    /// More than [`MAX_PARTS`].
    #[error("more than {MAX_PARTS} parts")]
    TooMany,
    /// More than [`MAX_PARTS_BYTES`] in all.
    #[error("parts of more than {MAX_PARTS_BYTES} bytes")]
    TooLong,
}

/// A part that must be understood and is not: the message comes from a newer version and would mean
/// something else without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("part {tag} of the message is not supported by this version")]
pub struct UnsupportedPart {
    /// The part's tag.
    pub tag: u32,
}

impl From<UnsupportedPart> for ApiError {
    fn from(error: UnsupportedPart) -> Self {
        ApiError::new(ErrorCode::UNSUPPORTED, error.to_string())
            .with_hint("update the older of the two")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(tags: &[u32]) -> Parts {
        let parts: Vec<Part> = tags.iter().map(|tag| Part::new(*tag, "x")).collect();
        parts.try_into().expect("valid parts")
    }

    #[test]
    fn an_unknown_part_is_refused_exactly_if_it_is_required() {
        assert_eq!(parts(&[]).ensure_understood(&[]), Ok(()));
        assert_eq!(parts(&[0, 2, 1000]).ensure_understood(&[]), Ok(()));
        assert_eq!(
            parts(&[2, 3, 5]).ensure_understood(&[]),
            Err(UnsupportedPart { tag: 3 })
        );
        assert_eq!(
            parts(&[2, 3, 5]).ensure_understood(&[3, 4]),
            Err(UnsupportedPart { tag: 5 })
        );
        assert_eq!(parts(&[2, 3, 5]).ensure_understood(&[5, 3]), Ok(()));
    }

    #[test]
    fn the_refusal_names_the_tag() {
        let error = ApiError::from(UnsupportedPart { tag: 4711 });
        assert_eq!(error.code, ErrorCode::UNSUPPORTED);
        assert!(error.message.contains("part 4711"), "{error}");
    }

    #[test]
    fn finds_a_part_by_its_tag() {
        let parts = Parts::try_from(vec![Part::new(2, "two"), Part::new(9, "nine")]).unwrap();
        assert_eq!(parts.get(9), Some(&b"nine"[..]));
        assert_eq!(parts.get(3), None);
    }

    #[test]
    fn tags_are_unique_and_ascending() {
        for tags in [[2, 2], [3, 2]] {
            let list = tags.map(|tag| Part::new(tag, "")).to_vec();
            let tag = tags[1];
            assert_eq!(Parts::try_from(list), Err(InvalidParts::Order { tag }));
        }
    }

    #[test]
    fn number_and_bytes_are_limited() {
        let most = u32::try_from(MAX_PARTS).unwrap();
        let mut full = parts(&(0..most).collect::<Vec<_>>());
        assert_eq!(full.push(Part::new(most, "")), Err(InvalidParts::TooMany));

        let half = vec![0; MAX_PARTS_BYTES / 2];
        let mut long =
            Parts::try_from(vec![Part::new(0, half.clone()), Part::new(1, half)]).unwrap();
        assert_eq!(long.push(Part::new(2, "x")), Err(InvalidParts::TooLong));
        assert_eq!(long.push(Part::new(2, "")), Ok(()));
    }
}
