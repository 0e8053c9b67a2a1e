//! Problems of a configuration, in words for people.

use std::fmt;

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    subject: String,
    explanation: String,
}

impl ConfigProblem {
    /// Creates a problem. `subject` says where it is and what is there, as in
    /// `PATH:LINE: KEY = VALUE`; `explanation` says what is wrong, or what is expected.
    pub(super) fn new(subject: impl Into<String>, explanation: impl Into<String>) -> Self {
        ConfigProblem {
            subject: subject.into(),
            explanation: explanation.into(),
        }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.explanation)
    }
}

/// Maximum number of problems that are reported. A file that is not a configuration file has one on
/// every line, and all problems of a reload go to the client in one frame.
const MAX_PROBLEMS: usize = 1000;

/// All problems of a configuration in the order in which it was read, a line for each.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// Creates an error of `problems`, which must not be empty.
    fn new(mut problems: Vec<ConfigProblem>) -> Self {
        let surplus = problems.len().saturating_sub(MAX_PROBLEMS);
        if surplus > 0 {
            problems.truncate(MAX_PROBLEMS);
            problems.push(ConfigProblem::new("...", format!("and {surplus} more")));
        }
        ConfigError { problems }
    }

    /// Fails if there are problems.
    pub(super) fn unless_empty(problems: Vec<ConfigProblem>) -> Result<(), ConfigError> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::new(problems))
        }
    }

    /// Returns the first problem as one line, and how many more there are.
    #[must_use]
    pub fn summary(&self) -> String {
        let first = self.problems.first().map(ToString::to_string);
        let first = first.unwrap_or_default();
        match self.problems.len() {
            0 | 1 => first,
            count => format!("{first} (and {} more)", count - 1),
        }
    }

    /// Returns the problems.
    #[must_use]
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }
}

fn lines(problems: &[ConfigProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ConfigProblem::to_string).collect();
    lines.join("\n")
}

/// Longest quotation of a value, in characters.
const MAX_QUOTED: usize = 60;

/// Returns the first line of `text` for a message: without control characters, and shortened to
/// [`MAX_QUOTED`] characters.
pub(super) fn quote(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let is_whole = line.len() == text.trim_end().len() && line.chars().count() <= MAX_QUOTED;
    let mut quoted = String::new();
    for character in line.chars().take(MAX_QUOTED) {
        if character.is_control() && character != '\t' {
            quoted.extend(character.escape_default())
        } else {
            quoted.push(character)
        }
    }
    if !is_whole {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_the_number_of_problems() {
        let problems = vec![ConfigProblem::new("a", "b"); MAX_PROBLEMS + 7];
        let error = ConfigError::new(problems);
        assert_eq!(error.problems().len(), MAX_PROBLEMS + 1);
        assert!(error.to_string().ends_with("\n...: and 7 more"));
        assert_eq!(error.summary(), format!("a: b (and {MAX_PROBLEMS} more)"));
        let one = ConfigError::new(vec![ConfigProblem::new("a", "b")]);
        assert_eq!(one.summary(), "a: b");
    }

    #[test]
    fn quotes_one_line_without_control_characters() {
        assert_eq!(quote("\"/srv/logs\""), "\"/srv/logs\"");
        assert_eq!(quote("a\x1b[2J"), "a\\u{1b}[2J");
        assert_eq!(quote("[\n1,\n2]"), "[…");
        assert_eq!(quote(&"x".repeat(100)), format!("{}…", "x".repeat(60)));
        assert_eq!(quote(""), "");
    }
}
