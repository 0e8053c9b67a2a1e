//! Heads and tails of UUIDs, as people type them.

use escher_protocol::ExecutionId;

use super::columns::TAIL_DIGITS;

/// Digits of a UUID.
const DIGITS: usize = 32;

/// After how many digits a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 12, 16, 20];

/// Text that may be the head or the tail of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The values of its digits.
    digits: Vec<u8>,
    is_head: bool,
    is_tail: bool,
}

impl Fragment {
    /// Reads `text`: digits in either case and hyphens, which may be left out but not be out of place.
    /// `None` for fewer than `least` digits and anything else.
    pub(super) fn parse(text: &str, least: usize) -> Option<Self> {
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
        let before = DIGITS - digits.len();
        let is_twice = hyphens.windows(2).any(|pair| pair[0] == pair[1]);
        let fit = |offset: usize| {
            let mut places = hyphens.iter().map(|place| place + offset);
            !is_twice && places.all(|place| HYPHENS.contains(&place))
        };
        let (is_head, is_tail) = (fit(0), fit(before));
        (digits.len() >= least).then_some(Fragment {
            digits,
            is_head,
            is_tail,
        })
    }

    /// The first and the last id that begin so, if any can.
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

    /// The first and the last [`tail`](super::columns::tail)s of the ids that end so, if any can. Of a longer fragment they are
    /// those of its end.
    pub(super) fn tail_range(&self) -> Option<(i64, i64)> {
        let known = self.digits.iter().rev().take(TAIL_DIGITS);
        let tail = known.fold(0, |tail, digit| tail << 4 | i64::from(*digit));
        let open = 4 * TAIL_DIGITS.saturating_sub(self.digits.len());
        self.is_tail
            .then(|| (tail << open, ((tail + 1) << open) - 1))
    }

    /// Whether `id` ends so.
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
        let range = Fragment::parse(text, 4).and_then(|fragment| fragment.head_range());
        range.is_some_and(|(low, high)| (low..=high).contains(&id().into_bytes()))
    }

    fn is_tail(text: &str) -> bool {
        let Some(fragment) = Fragment::parse(text, 4) else {
            return false;
        };
        let range = fragment.tail_range();
        let in_range = range.is_some_and(|(low, high)| (low..=high).contains(&columns::tail(id())));
        assert!(
            in_range || range.is_none() || !fragment.is_tail_of(id()),
            "{text}"
        );
        in_range && fragment.is_tail_of(id())
    }

    #[test]
    fn hyphens_may_be_left_out_but_not_be_out_of_place() {
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
        fn a_fragment_fits_what_its_text_fits(bytes: [u8; 16], other: [u8; 16], length in 4usize..=36) {
            let text = ExecutionId::from_bytes(bytes).to_string();
            for (piece, at_head) in [(&text[..length], true), (&text[36 - length..], false)] {
                let Some(fragment) = Fragment::parse(piece, 4) else { continue };
                for id in [ExecutionId::from_bytes(bytes), ExecutionId::from_bytes(other)] {
                    let in_head = fragment.head_range()
                        .is_some_and(|(low, high)| (low..=high).contains(&id.into_bytes()));
                    let in_tail = fragment.tail_range().is_some_and(|(low, high)| {
                        (low..=high).contains(&columns::tail(id)) && fragment.is_tail_of(id)
                    });
                    if at_head {
                        prop_assert_eq!(in_head, id.to_string().starts_with(piece));
                    } else {
                        prop_assert_eq!(in_tail, id.to_string().ends_with(piece));
                    }
                }
            }
        }
    }
}
