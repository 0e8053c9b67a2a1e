//! What is wrong with a configuration, in words for people.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    said: String,
    right: String,
}

impl Fault {
    /// `said` is where it is and what is said there (`PATH:LINE: KEY = VALUE`); `right`, what would be right.
    pub(super) fn new(said: impl Into<String>, right: impl Into<String>) -> Self {
        Fault {
            said: said.into(),
            right: right.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.said, self.right)
    }
}

/// Most faults that are told: a file that is no configuration has one on every line, and who asks for a reload is
/// told in one message.
const MAX_FAULTS: usize = 1000;

/// Everything that is wrong with a configuration, in the order in which it was read: a line for each.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", lines(.faults))]
pub struct ConfigError {
    faults: Vec<Fault>,
}

impl ConfigError {
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        let more = faults.len().saturating_sub(MAX_FAULTS);
        if more > 0 {
            faults.truncate(MAX_FAULTS);
            faults.push(Fault::new("and more", format!("{more} that are not told")));
        }
        ConfigError { faults }
    }

    /// Each thing that is wrong.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    lines.join("\n")
}

/// Longest piece of somebody's text that is repeated, in characters.
const MAX_SHOWN: usize = 60;

/// `text` as it can be shown in a line: its first one, without what would steer a terminal, and not too long.
pub(super) fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let is_whole = line.len() == text.trim_end().len() && line.chars().count() <= MAX_SHOWN;
    let mut shown = String::new();
    for character in line.chars().take(MAX_SHOWN) {
        if character.is_control() && character != '\t' {
            shown.extend(character.escape_default())
        } else {
            shown.push(character)
        }
    }
    if !is_whole {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_thousands_of_faults_most_are_counted() {
        let error = ConfigError::new(vec![Fault::new("a", "b"); MAX_FAULTS + 7]);
        assert_eq!(error.faults().len(), MAX_FAULTS + 1);
        assert!(
            error
                .to_string()
                .ends_with("\nand more: 7 that are not told")
        );
    }

    #[test]
    fn what_is_repeated_fits_a_line_and_steers_no_terminal() {
        assert_eq!(shown("\"/srv/logs\""), "\"/srv/logs\"");
        assert_eq!(shown("a\x1b[2J"), "a\\u{1b}[2J");
        assert_eq!(shown("[\n1,\n2]"), "[…");
        assert_eq!(shown(&"x".repeat(100)), format!("{}…", "x".repeat(60)));
        assert_eq!(shown(""), "");
    }
}
