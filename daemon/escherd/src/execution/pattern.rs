//! Texts with `*` and `?` in filters.

/// A text that others are compared with: `*` in it stands for any characters, `?` for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern<'a>(&'a str);

impl<'a> Pattern<'a> {
    /// Makes a pattern of a text in a filter.
    pub(super) fn new(text: &'a str) -> Self {
        Pattern(text)
    }

    /// Returns the only text that matches; `None` if several may.
    pub(super) fn literal(self) -> Option<&'a str> {
        (!self.0.contains(['*', '?'])).then_some(self.0)
    }

    /// Returns whether all of `text` matches. It takes at most as many steps as the product of both
    /// lengths.
    pub(super) fn matches(self, text: &str) -> bool {
        if let Some(literal) = self.literal() {
            return literal == text;
        }
        let (mut pattern, mut rest) = (self.0.chars(), text.chars());
        // After the last `*`: the pattern that follows it, and the text of which it takes one more
        // character when what follows does not match.
        let mut retry = None;
        loop {
            match (pattern.next(), rest.clone().next()) {
                (Some('*'), _) => retry = Some((pattern.clone(), rest.clone())),
                (None, None) => return true,
                (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                    rest.next();
                }
                _ => {
                    let Some((after, from)) = &mut retry else {
                        return false;
                    };
                    if from.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (after.clone(), from.clone());
                }
            }
        }
    }

    /// Returns the length, in bytes.
    pub(super) fn len(self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters_and_question_marks_for_one() {
        for (pattern, matching, others) in [
            ("", &[""][..], &["a"][..]),
            ("nightly", &["nightly"], &["Nightly", "nightly2", ""]),
            ("*", &["", "a", "ü\n"], &[]),
            ("night*", &["night", "nightly"], &["a night", "nigh"]),
            ("*ly", &["ly", "nightly", "lyly"], &["lyl"]),
            ("n?ght", &["night", "nüght"], &["nght", "niight"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "b"]),
            ("a*b?d*", &["abcd", "aXbcbcd!"], &["abd", "abc"]),
            ("??*", &["ab", "abc"], &["a"]),
            ("**", &["", "x"], &[]),
            ("\\*", &["\\", "\\x"], &["*"]),
        ] {
            for text in matching {
                assert!(Pattern::new(pattern).matches(text), "{pattern} {text}");
            }
            for text in others {
                assert!(!Pattern::new(pattern).matches(text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn only_a_text_without_wildcards_is_literal() {
        assert_eq!(Pattern::new("a.b").literal(), Some("a.b"));
        assert_eq!(Pattern::new("a*").literal(), None);
        assert_eq!(Pattern::new("?").literal(), None);
    }

    /// With recursion this pattern would take longer than the universe has existed.
    #[test]
    fn many_stars_do_not_multiply() {
        let pattern = "*a".repeat(100) + "b";
        let text = "a".repeat(4000);
        assert!(!Pattern::new(&pattern).matches(&text));
    }
}
