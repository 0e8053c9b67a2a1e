//! A share in percent.

use std::fmt;

/// A share of something: from 1% to 100%.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// The whole.
    pub const ALL: Percent = Percent(100);

    /// Creates a share; `None` if it is not from 1 to 100.
    #[must_use]
    pub const fn new(percent: u8) -> Option<Self> {
        match percent {
            1..=100 => Some(Percent(percent)),
            _ => None,
        }
    }

    /// Parses a share as it is written in a file: `50%`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%')?;
        let is_plain =
            digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
        digits
            .parse()
            .ok()
            .filter(|_| is_plain)
            .and_then(Percent::new)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns this share of `whole`, rounded up.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        let share = (u128::from(whole) * u128::from(self.0)).div_ceil(100);
        // A share is at most the whole.
        u64::try_from(share).unwrap_or(whole)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_number_with_a_percent_sign() {
        for percent in [1, 50, 100] {
            let share = Percent::new(percent).unwrap();
            assert_eq!(Percent::parse(&share.to_string()), Some(share));
        }
        for text in [
            "0%", "101%", "50", "%", "", "-5%", "+5%", "05%", "5.5%", "5 %", "300%",
        ] {
            assert_eq!(Percent::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_share_of_something_is_never_nothing() {
        let tenth = Percent::new(10).unwrap();
        assert_eq!(
            [0, 1, 10, 11, 100].map(|whole| tenth.of(whole)),
            [0, 1, 1, 2, 10]
        );
        assert_eq!(Percent::ALL.of(u64::MAX), u64::MAX);
    }
}
