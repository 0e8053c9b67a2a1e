//! Characters that people do not see, with which one text can look like another.

use std::ops::RangeInclusive;

/// The code points with the property `Default_Ignorable_Code_Point`, such as spaces without width and marks
/// that reverse the direction of text, and the separators of lines and paragraphs (Unicode 16,
/// `DerivedCoreProperties.txt` and `UnicodeData.txt`).
const RANGES: [RangeInclusive<char>; 17] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fff8}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Whether a character has no form of its own: control characters, and those that only change how others look. Names
/// must not have them, and what displays text escapes them.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && RANGES.iter().any(|range| range.contains(&c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_people_see_are_visible() {
        for text in [
            "build-1 (x)",
            "Grüße",
            "e\u{301}",
            "世界",
            "हिन्दी",
            "ไทย",
            "עברית",
            "✔🚀",
        ] {
            assert!(!text.contains(is_invisible), "{text}");
        }
    }

    #[test]
    fn controls_and_marks_are_invisible() {
        for c in [
            '\0',
            '\n',
            '\x1b',
            '\x7f',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert!(is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn the_ranges_are_in_order_and_do_not_overlap() {
        assert!(RANGES.is_sorted_by(|one, next| one.end() < next.start()));
    }
}
