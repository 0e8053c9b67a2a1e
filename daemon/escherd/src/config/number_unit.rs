//! The units of settings that are numbers: how else than by digits they may be written.

use std::ffi::OsStr;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// What a number counts, by the end of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberUnit {
    /// Things.
    None,
    Milliseconds,
    Seconds,
    Bytes,
}

/// Units of sizes, in bytes.
const SIZES: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("B", 1),
];

impl NumberUnit {
    pub(super) const fn of_key(key: &str) -> Self {
        if ends_with(key, "_ms") {
            NumberUnit::Milliseconds
        } else if ends_with(key, "_secs") {
            NumberUnit::Seconds
        } else if ends_with(key, "bytes") || ends_with(key, "_bytes_per_user") {
            NumberUnit::Bytes
        } else {
            NumberUnit::None
        }
    }

    /// Parses a time such as `2m` or a size such as `10MiB`, if this is the unit of one.
    pub(super) fn parse(self, text: &OsStr) -> Option<u64> {
        const NANOS_PER_SECOND: u128 = 1_000_000_000;
        let nanos_each = match self {
            NumberUnit::None => return None,
            NumberUnit::Bytes => return parse_size(text.to_str()?),
            NumberUnit::Milliseconds => NANOS_PER_SECOND / 1000,
            NumberUnit::Seconds => NANOS_PER_SECOND,
        };
        let nanos = parse_duration(text)?.as_nanos();
        let number = u64::try_from(nanos / nanos_each).ok()?;
        (nanos % nanos_each == 0).then_some(number)
    }

    /// Says how a value may be written beside digits.
    pub(super) fn example(self) -> &'static str {
        match self {
            NumberUnit::None => "",
            NumberUnit::Milliseconds | NumberUnit::Seconds => ", or a time such as \"2m\"",
            NumberUnit::Bytes => ", or a size such as \"10MiB\"",
        }
    }
}

/// Parses a time with units.
pub(super) fn parse_duration(text: &OsStr) -> Option<Duration> {
    let span: Span = text.to_str()?.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, each) = SIZES
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim_end(), *bytes)))?;
    let is_plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_plain)?;
    number.checked_mul(each)
}

const fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    let mut rest = end.len();
    if text.len() < rest {
        return false;
    }
    let begin = text.len() - end.len();
    while rest > 0 {
        rest -= 1;
        if text[begin + rest] != end[rest] {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_key_says_its_unit() {
        for (key, unit) in [
            ("execution.max_timeout_ms", NumberUnit::Milliseconds),
            ("history.max_age_secs", NumberUnit::Seconds),
            ("history.max_bytes", NumberUnit::Bytes),
            ("daemon.max_client_memory_bytes_per_user", NumberUnit::Bytes),
            ("history.max_count", NumberUnit::None),
        ] {
            assert_eq!(NumberUnit::of_key(key), unit, "{key}");
        }
    }

    #[test]
    fn times_and_sizes_are_whole_numbers_of_their_unit() {
        use NumberUnit::{Bytes, Milliseconds, None as Things, Seconds};
        for (unit, text, expected) in [
            (Milliseconds, "2m", Some(120_000)),
            (Milliseconds, "1.5s", Some(1_500)),
            (Milliseconds, "1us", None),
            (Seconds, "7d", Some(604_800)),
            (Seconds, "1500ms", None),
            (Seconds, "10MiB", None),
            (Bytes, "10MiB", Some(10 << 20)),
            (Bytes, "10 MiB", Some(10 << 20)),
            (Bytes, "2G", Some(2 << 30)),
            (Bytes, "512B", Some(512)),
            (Bytes, "10", None),
            (Bytes, "10MB", None),
            (Bytes, "MiB", None),
            (Bytes, "-1K", None),
            (Bytes, "1.5M", None),
            (Bytes, "17179869184T", None),
            (Bytes, "2m", None),
            (Things, "2m", None),
        ] {
            assert_eq!(unit.parse(text.as_ref()), expected, "{text}");
        }
    }
}
