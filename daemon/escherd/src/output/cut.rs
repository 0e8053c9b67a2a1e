//! Where output is cut, and what stands there.

use super::rules::{OutputRules, OversizedOutput};

/// Most bytes of a character of UTF-8 on one side of a cut through it.
pub(super) const MAX_SPLIT_BYTES: u64 = 3;

/// How many of the bytes `before` and `after` a cut are those of one character of UTF-8 that the cut would
/// split; `(0, 0)` where it splits none. Of both, [`MAX_SPLIT_BYTES`] next to the cut are enough.
pub(super) fn split_character(before: &[u8], after: &[u8]) -> (u64, u64) {
    (1..=MAX_SPLIT_BYTES)
        .find_map(|count| {
            let begin = before.len().checked_sub(usize::try_from(count).ok()?)?;
            let around = [&before[begin..], after].concat();
            let first = around.utf8_chunks().next()?.valid().chars().next()?;
            let behind = (first.len_utf8() as u64).checked_sub(count)?;
            (behind > 0).then_some((count, behind))
        })
        .unwrap_or((0, 0))
}

/// What stands in a result where `left_out` bytes are missing.
pub(super) fn mark(rules: OutputRules, left_out: u64) -> String {
    match (rules.keep_tail_bytes, rules.oversized) {
        // The result names the file that has everything.
        (0, OversizedOutput::ToFile) => String::new(),
        (0, OversizedOutput::Truncate | OversizedOutput::Fail) => {
            truncation_marker(rules.max_bytes)
        }
        _ => {
            let limit = figure(rules.max_bytes);
            format!("\n[... output truncated at {limit}: {left_out} bytes left out ...]\n")
        }
    }
}

/// The mark at the end of output that was cut at `limit` bytes: `\n[... output truncated at 10MB ...]`.
/// Whole mebibytes and kibibytes are said as such.
fn truncation_marker(limit: u64) -> String {
    format!("\n[... output truncated at {} ...]", figure(limit))
}

fn figure(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    match bytes {
        bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{}MB", bytes / MIB),
        bytes if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{}KB", bytes / KIB),
        bytes => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_marker_names_the_limit() {
        assert_eq!(
            truncation_marker(10 << 20),
            "\n[... output truncated at 10MB ...]"
        );
        assert_eq!(
            truncation_marker(2048),
            "\n[... output truncated at 2KB ...]"
        );
        assert_eq!(
            truncation_marker(1025),
            "\n[... output truncated at 1025B ...]"
        );
    }

    #[test]
    fn what_stands_at_a_cut_follows_the_rules() {
        use OversizedOutput::{Fail, ToFile, Truncate};
        let mark = |keep_tail_bytes, oversized| {
            let rules = OutputRules {
                stream: true,
                max_bytes: 10 << 20,
                keep_tail_bytes,
                oversized,
            };
            mark(rules, 12345)
        };
        let (end, middle) = (
            "\n[... output truncated at 10MB ...]",
            "\n[... output truncated at 10MB: 12345 bytes left out ...]\n",
        );
        let oversized = [Truncate, Fail, ToFile];
        assert_eq!(
            oversized.map(|oversized| mark(0, oversized)),
            [end, end, ""]
        );
        assert_eq!(oversized.map(|oversized| mark(1, oversized)), [middle; 3]);
    }

    #[test]
    fn a_cut_splits_a_whole_valid_character_alone() {
        let table: [(&[u8], &[u8], _); 12] = [
            (b"", b"", (0, 0)),
            (b"ab", b"cd", (0, 0)),
            (b"", "é".as_bytes(), (0, 0)),
            ("é".as_bytes(), b"", (0, 0)),
            (b"x\xc3", b"\xa9x", (1, 1)),
            (b"\xe2\x82", b"\xac", (2, 1)),
            (b"x\xf0", b"\x9f\x98\x80", (1, 3)),
            (b"\xf0\x9f\x98", b"\x80x", (3, 1)),
            // No characters: cut short, overlong, a surrogate, and bytes that continue nothing.
            (b"\xe2\x82", b"", (0, 0)),
            (b"\xc0", b"\x80", (0, 0)),
            (b"\xed\xa0", b"\x80", (0, 0)),
            (b"\x9f\x98", b"\x80\x80", (0, 0)),
        ];
        for (before, after, expected) in table {
            let split = split_character(before, after);
            assert_eq!(split, expected, "{before:x?} | {after:x?}");
        }
    }

    proptest! {
        #[test]
        fn a_cut_that_moves_leaves_valid_text_on_both_sides(text: String, place: prop::sample::Index) {
            let place = place.index(text.len() + 1);
            let (before, after) = text.as_bytes().split_at(place);
            let (head, tail) = split_character(before, after);
            let head = &before[..before.len() - usize::try_from(head).unwrap()];
            let tail = &after[usize::try_from(tail).unwrap()..];
            prop_assert!(std::str::from_utf8(head).is_ok() && std::str::from_utf8(tail).is_ok());
        }

        #[test]
        fn bytes_further_off_make_no_difference(
            bytes: Vec<u8>, place: prop::sample::Index
        ) {
            let place = place.index(bytes.len() + 1);
            let (before, after) = bytes.split_at(place);
            let near = (&before[before.len().saturating_sub(3)..], &after[..after.len().min(3)]);
            prop_assert_eq!(split_character(before, after), split_character(near.0, near.1));
        }
    }
}
