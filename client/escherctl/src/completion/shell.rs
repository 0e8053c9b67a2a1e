//! In what shells differ.

use std::ffi::{OsStr, OsString};

use clap_complete::CompletionCandidate;

use super::SCRIPTS;
use crate::render::escape;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The shell of this name, and its script.
    pub(super) fn named(name: &OsStr) -> Option<(Shell, &'static str)> {
        let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
        let mut known = shells.into_iter().zip(SCRIPTS);
        known
            .find(|(_, (known, _))| name == *known)
            .map(|(shell, (_, script))| (shell, script))
    }

    /// The words as they are in the line. Bash breaks them at `=` and `:`.
    pub(super) fn join(self, words: &[OsString]) -> Vec<OsString> {
        if self != Shell::Bash {
            return words.to_vec();
        }
        let mut joined: Vec<OsString> = Vec::new();
        let mut is_open = false;
        for word in words {
            let is_break = !word.is_empty() && word.as_encoded_bytes().iter().all(is_break);
            match joined.last_mut() {
                Some(last) if is_open || is_break => last.push(word),
                _ => joined.push(word.clone()),
            }
            is_open = is_break;
        }
        joined
    }

    /// A line with the candidate for the word at the cursor; `None` where no shell could take it up.
    ///
    /// Fish and zsh quote by themselves what is to stand in the line as it is. Bash takes it as it comes.
    pub(super) fn show(self, candidate: &CompletionCandidate, at_cursor: &OsStr) -> Option<String> {
        let value = candidate.get_value().to_str()?;
        if value.contains(escape::is_unsafe) {
            return None;
        }
        let help = candidate.get_help().map(ToString::to_string);
        let help = help.as_deref().and_then(|help| help.lines().next());
        Some(match (self, help) {
            (Shell::Bash, _) => quoted(behind_last_break(value, at_cursor)) + "\n",
            (Shell::Zsh, None) => format!("{}\n", zsh_escaped(value)),
            (Shell::Zsh, Some(help)) => {
                format!("{}:{}\n", zsh_escaped(value), help.replace('\\', "\\\\"))
            }
            (Shell::Fish, None) => format!("{value}\n"),
            (Shell::Fish, Some(help)) => format!("{value}\t{help}\n"),
        })
    }
}

/// Whether bash breaks words here.
fn is_break(byte: &u8) -> bool {
    matches!(byte, b'=' | b':')
}

/// What bash puts in place of the last piece of the word.
fn behind_last_break<'a>(value: &'a str, at_cursor: &OsStr) -> &'a str {
    let broken = at_cursor.as_encoded_bytes().iter().rposition(is_break);
    let kept = broken.map_or(0, |at| at + 1);
    value.get(kept..).unwrap_or(value)
}

/// With a backslash before everything that could be more to bash than a letter.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        let is_plain = c.is_alphanumeric() || "_@%+=:,./-".contains(c) || (at == 0 && c == '~');
        if !is_plain {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// Zsh separates value and help by a colon.
fn zsh_escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(words: &[&str]) -> Vec<OsString> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Shell::Bash.join(&words)
    }

    #[test]
    fn words_that_bash_breaks_are_whole_again() {
        assert_eq!(
            join(&["ps", "--filter", "status", "=", "fa"]),
            ["ps", "--filter", "status=fa"]
        );
        assert_eq!(
            join(&["--socket", "=", "/a", ":", "b", ""]),
            ["--socket=/a:b", ""]
        );
        assert_eq!(join(&["status", "="]), ["status="]);
        assert_eq!(join(&["a", ""]), ["a", ""]);
    }

    #[test]
    fn a_candidate_is_one_word_whatever_is_in_it() {
        let show = |shell: Shell, value: &str, at_cursor: &str| {
            let candidate = CompletionCandidate::new(value).help(Some(r"a\b".into()));
            shell.show(&candidate, at_cursor.as_ref())
        };
        assert_eq!(
            show(Shell::Bash, "x;$(y) z", "").unwrap(),
            "x\\;\\$\\(y\\)\\ z\n"
        );
        assert_eq!(show(Shell::Bash, "~/a b", "").unwrap(), "~/a\\ b\n");
        assert_eq!(
            show(Shell::Bash, "status=failed", "status=fa").unwrap(),
            "failed\n"
        );
        assert_eq!(show(Shell::Zsh, r"a:b\", "").unwrap(), "a\\:b\\\\:a\\\\b\n");
        assert_eq!(show(Shell::Fish, "a:b", "").unwrap(), "a:b\ta\\b\n");
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert_eq!(show(shell, "two\nlines", ""), None);
            assert_eq!(show(shell, "\u{1b}[2J", ""), None);
        }
    }
}
