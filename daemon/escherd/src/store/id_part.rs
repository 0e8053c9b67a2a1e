//! Beginnings (heads) and ends (tails) of UUIDs, as people type them.

use escher_protocol::ExecutionId;

use super::columns::TAIL_DIGITS;

/// Digits of a UUID.
const DIGITS: usize = 32;

/// Positions of the hyphens of a UUID, in digits.
const HYPHENS: [usize; 4] = [8, 12, 16, 20];

/// The head or the tail of an id, or a text that can be either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdPart {
    /// The values of its digits.
    digits: Vec<u8>,
    is_head: bool,
    is_tail: bool,
}

impl IdPart {
    /// Parses `text`: digits in either case, and hyphens, which may be omitted but not misplaced.
    /// Returns `None` for fewer than `min_digits` digits and for anything else.
    pub(super) fn parse(text: &str, min_digits: usize) -> Option<Self> {
        let mut digits = Vec::new();
        let mut hyphens = Vec::new();
        for char in text.chars() {
            match char.to_digit(16) {
                Some(digit) => digits.push(u8::try_from(digit).ok()?),
                None if char == '-' => hyphens.push(digits.len()),
                None => return None,
            }
            if digits.len() > DIGITS {
                return None;
            }
        }
        let tail_offset = DIGITS - digits.len();
        let is_doubled = hyphens.windows(2).any(|pair| pair[0] == pair[1]);
        let fits_at = |offset: usize| {
            let mut positions = hyphens.iter().map(|position| position + offset);
            !is_doubled && positions.all(|position| HYPHENS.contains(&position))
        };
        let (is_head, is_tail) = (fits_at(0), fits_at(tail_offset));
        (digits.len() >= min_digits).then_some(IdPart {
            digits,
            is_head,
            is_tail,
        })
    }

    /// Returns the first and the last id with this head, if it can be a head.
    pub(super) fn head_range(&self) -> Option<([u8; 16], [u8; 16])> {
        let filled = |fill: u8| {
            let mut bytes = [fill << 4 | fill; 16];
            for (index, digit) in self.digits.iter().enumerate() {
                let byte = &mut bytes[index / 2];
                *byte = match index % 2 {
                    0 => digit << 4 | *byte & 15,
                    _ => *byte & 0xf0 | digit,
                };
            }
            bytes
        };
        self.is_head.then(|| (filled(0), filled(15)))
    }

    /// Returns the first and the last [`id_tail`](super::columns::id_tail) of the ids with this
    /// tail, if it can be a tail. Digits beyond those of an `id_tail` are ignored.
    pub(super) fn tail_range(&self) -> Option<(i64, i64)> {
        let last_digits = self.digits.iter().rev().take(TAIL_DIGITS);
        let tail = last_digits.fold(0, |tail, digit| tail << 4 | i64::from(*digit));
        let free_bits = 4 * TAIL_DIGITS.saturating_sub(self.digits.len());
        self.is_tail
            .then(|| (tail << free_bits, ((tail + 1) << free_bits) - 1))
    }

    /// Returns whether `id` ends with these digits.
    pub(super) fn is_tail_of(&self, id: ExecutionId) -> bool {
        let bytes = id.into_bytes();
        let all = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        all.skip(DIGITS - self.digits.len())
            .eq(self.digits.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns;
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42";

    fn id() -> ExecutionId {
        ID.parse().unwrap()
    }

    fn is_head(text: &str) -> bool {
        let range = IdPart::parse(text, 4).and_then(|part| part.head_range());
        range.is_some_and(|(low, high)| (low..=high).contains(&id().into_bytes()))
    }

    fn is_tail(text: &str) -> bool {
        let Some(part) = IdPart::parse(text, 4) else {
            return false;
        };
        let range = part.tail_range();
        let in_range =
            range.is_some_and(|(low, high)| (low..=high).contains(&columns::id_tail(id())));
        assert!(
            in_range || range.is_none() || !part.is_tail_of(id()),
            "{text}"
        );
        in_range && part.is_tail_of(id())
    }

    #[test]
    fn hyphens_may_be_omitted_but_not_misplaced() {
        for (text, head, tail) in [
            (ID, true, true),
            ("01920F3E6D2C7C318F350D6C7E9B1A42", true, true),
            ("0192", true, false),
            ("01920f3e-", true, false),
            ("01920f3e6d2c-7c", true, false),
            ("01920f3-e6d2c", false, false),
            ("01920f3e--6d2c", false, false),
            ("1a42", false, true),
            ("-0d6c7e9b1a42", false, true),
            ("8f35-0d6c7e9b1a42", false, true),
            ("8f350d6c7e9b1a42", false, true),
            ("8f35-0d6c7e9b-1a42", false, false),
            ("1a4", false, false),
            ("", false, false),
            ("----", false, false),
            ("01920f3e-6d2c-7c31-8f35-0d6c7e9b1a420", false, false),
            ("wxyz", false, false),
            ("１２３４", false, false),
        ] {
            assert_eq!((is_head(text), is_tail(text)), (head, tail), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn matches_the_ids_whose_text_has_the_part(
            bytes: [u8; 16], other: [u8; 16], length in 4usize..=36
        ) {
            let text = ExecutionId::from_bytes(bytes).to_string();
            for (text_part, at_head) in [(&text[..length], true), (&text[36 - length..], false)] {
                let Some(part) = IdPart::parse(text_part, 4) else { continue };
                for id in [ExecutionId::from_bytes(bytes), ExecutionId::from_bytes(other)] {
                    let in_head = part.head_range()
                        .is_some_and(|(low, high)| (low..=high).contains(&id.into_bytes()));
                    let in_tail = part.tail_range().is_some_and(|(low, high)| {
                        (low..=high).contains(&columns::id_tail(id)) && part.is_tail_of(id)
                    });
                    if at_head {
                        prop_assert_eq!(in_head, id.to_string().starts_with(text_part));
                    } else {
                        prop_assert_eq!(in_tail, id.to_string().ends_with(text_part));
                    }
                }
            }
        }
    }
}
