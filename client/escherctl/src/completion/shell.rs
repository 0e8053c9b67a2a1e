//! The differences between shells.

use std::ffi::{OsStr, OsString};

use clap_complete::CompletionCandidate;
use escher_client::protocol::invisible::is_invisible;

/// The completion script of each shell.
pub const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("escherctl.bash")),
    ("zsh", include_str!("escherctl.zsh")),
    ("fish", include_str!("escherctl.fish")),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// Finds a shell and its script by name.
    pub(super) fn by_name(name: &OsStr) -> Option<(Shell, &'static str)> {
        let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
        let mut known = shells.into_iter().zip(SCRIPTS);
        known
            .find(|(_, (known, _))| name == *known)
            .map(|(shell, (_, script))| (shell, script))
    }

    /// Returns the words as they were typed. Bash splits them at `=` and `:`.
    pub(super) fn rejoin_words(self, words: &[OsString]) -> Vec<OsString> {
        if self != Shell::Bash {
            return words.to_vec();
        }
        let mut joined: Vec<OsString> = Vec::new();
        let mut is_open = false;
        for word in words {
            let is_separator = !word.is_empty() && word.as_encoded_bytes().iter().all(splits_words);
            match joined.last_mut() {
                Some(last) if is_open || is_separator => last.push(word),
                _ => joined.push(word.clone()),
            }
            is_open = is_separator;
        }
        joined
    }

    /// Returns how many of the shell's `words` come before the word that is number `index` once they are rejoined.
    pub(super) fn offset_of_word(self, words: &[OsString], index: usize) -> usize {
        let begins = |offset: &usize| self.rejoin_words(&words[..=*offset]).len() > index;
        (0..words.len()).find(begins).unwrap_or(words.len())
    }

    /// Returns the line that offers a candidate for the word at the cursor; `None` if shells cannot
    /// read it.
    ///
    /// Fish and zsh quote candidates themselves; bash inserts them as they are.
    pub(super) fn candidate_line(
        self,
        candidate: &CompletionCandidate,
        at_cursor: &OsStr,
    ) -> Option<String> {
        let value = candidate.get_value().to_str()?;
        if value.contains(is_invisible) {
            return None;
        }
        let help = candidate.get_help().map(ToString::to_string);
        let help = help.as_deref().and_then(|help| help.lines().next());
        Some(match (self, help) {
            (Shell::Bash, _) => quote(after_last_separator(value, at_cursor)) + "\n",
            (Shell::Zsh, None) => format!("{}\n", escape_zsh(value)),
            (Shell::Zsh, Some(help)) => {
                format!("{}:{}\n", escape_zsh(value), help.replace('\\', "\\\\"))
            }
            (Shell::Fish, None) => format!("{value}\n"),
            (Shell::Fish, Some(help)) => format!("{value}\t{help}\n"),
        })
    }
}

/// Whether bash splits words at this byte.
fn splits_words(byte: &u8) -> bool {
    matches!(byte, b'=' | b':')
}

/// Returns what bash inserts in place of the last piece of the word at the cursor.
fn after_last_separator<'a>(value: &'a str, at_cursor: &OsStr) -> &'a str {
    let separator = at_cursor.as_encoded_bytes().iter().rposition(splits_words);
    let start = separator.map_or(0, |at| at + 1);
    value.get(start..).unwrap_or(value)
}

/// Puts a backslash before everything that could have a meaning to bash.
fn quote(value: &str) -> String {
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

/// Escapes colons, which zsh takes for the end of the value.
fn escape_zsh(value: &str) -> String {
    value.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejoin(words: &[&str]) -> Vec<OsString> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Shell::Bash.rejoin_words(&words)
    }

    #[test]
    fn rejoins_the_words_that_bash_splits() {
        assert_eq!(
            rejoin(&["ps", "--filter", "status", "=", "fa"]),
            ["ps", "--filter", "status=fa"]
        );
        assert_eq!(
            rejoin(&["--socket", "=", "/a", ":", "b", ""]),
            ["--socket=/a:b", ""]
        );
        assert_eq!(rejoin(&["status", "="]), ["status="]);
        assert_eq!(rejoin(&["a", ""]), ["a", ""]);
    }

    #[test]
    fn counts_words_as_bash_does() {
        let words = ["escherctl", "run", "-e", "A", "=", "1", "make", "-j"].map(OsString::from);
        assert_eq!(Shell::Bash.offset_of_word(&words, 4), 6);
        assert_eq!(Shell::Bash.offset_of_word(&words, 1), 1);
        assert_eq!(Shell::Zsh.offset_of_word(&words, 4), 4);
    }

    #[test]
    fn a_candidate_is_one_word_whatever_it_contains() {
        let show = |shell: Shell, value: &str, at_cursor: &str| {
            let candidate = CompletionCandidate::new(value).help(Some(r"a\b".into()));
            shell.candidate_line(&candidate, at_cursor.as_ref())
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
