//! Truncation of the output in a result: the rules, the position of a cut, and the text that marks
//! it.

/// How much of its output a command's result carries, and what happens if there is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRules {
    /// Whether output is served while the command runs; otherwise only once it has ended.
    pub stream: bool,
    /// Maximum number of bytes of each stream in a result.
    pub max_bytes: u64,
    /// How many of them are taken from the end of truncated output; 0: none.
    pub keep_tail_bytes: u64,
    /// What happens to larger output.
    pub oversized: OversizedOutput,
}

/// What happens to output over the limit of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OversizedOutput {
    /// The result's text is truncated, with a marker.
    Truncate,
    /// The command is ended, and its execution has failed.
    Fail,
    /// The result has the first part of the output, and the path of the log, which has all of it.
    ToFile,
}

/// Maximum number of bytes of a UTF-8 character on one side of a cut through it.
pub(super) const MAX_SPLIT_BYTES: u64 = 3;

/// Returns how many of the bytes `before` and `after` a cut belong to a UTF-8 character that the
/// cut would split; `(0, 0)` if it splits none. The [`MAX_SPLIT_BYTES`] next to the cut suffice.
pub(super) fn split_character(before: &[u8], after: &[u8]) -> (u64, u64) {
    (1..=MAX_SPLIT_BYTES)
        .find_map(|count| {
            let begin = before.len().checked_sub(usize::try_from(count).ok()?)?;
            let joined = [&before[begin..], after].concat();
            let first = joined.utf8_chunks().next()?.valid().chars().next()?;
            let count_after = (first.len_utf8() as u64).checked_sub(count)?;
            (count_after > 0).then_some((count, count_after))
        })
        .unwrap_or((0, 0))
}

/// Returns the text that stands in a result in place of `omitted` bytes.
pub(super) fn omission_marker(rules: OutputRules, omitted: u64) -> String {
    match (rules.keep_tail_bytes, rules.oversized) {
        // The result names the file that has all of the output.
        (0, OversizedOutput::ToFile) => String::new(),
        (0, OversizedOutput::Truncate | OversizedOutput::Fail) => {
            truncation_marker(rules.max_bytes)
        }
        _ => {
            let limit = format_bytes(rules.max_bytes);
            format!("\n[... output truncated at {limit}: {omitted} bytes left out ...]\n")
        }
    }
}

/// Returns the marker at the end of output that was truncated at `limit` bytes:
/// `\n[... output truncated at 10MB ...]`.
fn truncation_marker(limit: u64) -> String {
    format!("\n[... output truncated at {} ...]", format_bytes(limit))
}

/// Formats a size, in MB or KB if it is a multiple of a mebibyte or kibibyte.
fn format_bytes(bytes: u64) -> String {
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
    fn the_marker_states_the_limit() {
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
    fn the_marker_depends_on_the_rules() {
        use OversizedOutput::{Fail, ToFile, Truncate};
        let marker = |keep_tail_bytes, oversized| {
            let rules = OutputRules {
                stream: true,
                max_bytes: 10 << 20,
                keep_tail_bytes,
                oversized,
            };
            omission_marker(rules, 12345)
        };
        let (end, middle) = (
            "\n[... output truncated at 10MB ...]",
            "\n[... output truncated at 10MB: 12345 bytes left out ...]\n",
        );
        let oversized = [Truncate, Fail, ToFile];
        assert_eq!(
            oversized.map(|oversized| marker(0, oversized)),
            [end, end, ""]
        );
        assert_eq!(oversized.map(|oversized| marker(1, oversized)), [middle; 3]);
    }

    #[test]
    fn only_a_complete_valid_character_is_split() {
        let table: [(&[u8], &[u8], _); 12] = [
            (b"", b"", (0, 0)),
            (b"ab", b"cd", (0, 0)),
            (b"", "é".as_bytes(), (0, 0)),
            ("é".as_bytes(), b"", (0, 0)),
            (b"x\xc3", b"\xa9x", (1, 1)),
            (b"\xe2\x82", b"\xac", (2, 1)),
            (b"x\xf0", b"\x9f\x98\x80", (1, 3)),
            (b"\xf0\x9f\x98", b"\x80x", (3, 1)),
            // Not characters: truncated, overlong, a surrogate, and stray continuation bytes.
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
        fn a_moved_cut_leaves_valid_text_on_both_sides(text: String, cut: prop::sample::Index) {
            let cut = cut.index(text.len() + 1);
            let (before, after) = text.as_bytes().split_at(cut);
            let (head, tail) = split_character(before, after);
            let head = &before[..before.len() - usize::try_from(head).unwrap()];
            let tail = &after[usize::try_from(tail).unwrap()..];
            prop_assert!(std::str::from_utf8(head).is_ok() && std::str::from_utf8(tail).is_ok());
        }

        #[test]
        fn only_the_bytes_next_to_a_cut_matter(bytes: Vec<u8>, cut: prop::sample::Index) {
            let cut = cut.index(bytes.len() + 1);
            let (before, after) = bytes.split_at(cut);
            let near = (&before[before.len().saturating_sub(3)..], &after[..after.len().min(3)]);
            prop_assert_eq!(split_character(before, after), split_character(near.0, near.1));
        }
    }
}
