//! The words of a line, as escherctl reads them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::ArgMatches;

/// The words up to the cursor; the last one is at it, and may be empty.
pub(super) struct Line {
    words: Vec<OsString>,
    socket: Option<PathBuf>,
    is_in_command: bool,
}

impl Line {
    /// Reads as far as it can: a line that is still being written is seldom a whole one.
    pub(super) fn read(mut words: Vec<OsString>) -> Self {
        let matches = crate::command()
            .ignore_errors(true)
            .try_get_matches_from(&words)
            .unwrap_or_default();
        let socket = matches.try_get_one("socket").ok().flatten().cloned();
        let command_words = command_words(&matches);
        let command = words.len().saturating_sub(command_words);
        let is_marked = words[..command].last().is_some_and(|word| word == "--");
        if command_words > 1 && !is_marked {
            // The engine takes what follows a command for options of escherctl's, unless it is told.
            words.insert(command, "--".into());
        }
        Line {
            words,
            socket,
            is_in_command: command_words > 1,
        }
    }

    pub(super) fn words(&self) -> &[OsString] {
        &self.words
    }

    pub(super) fn at_cursor(&self) -> &OsStr {
        self.words
            .last()
            .map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// Whether the cursor is behind the first word of a command to be run.
    pub(super) fn is_in_command(&self) -> bool {
        self.is_in_command
    }

    /// What `--socket` says.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.socket.clone()
    }
}

/// How many words at the end are those of a command to be run.
fn command_words(matches: &ArgMatches) -> usize {
    let Some((_, verb)) = matches.subcommand() else {
        return 0;
    };
    match verb.try_get_many::<OsString>("command") {
        Ok(Some(words)) => words.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Line {
        Line::read(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn what_follows_a_command_is_its_own() {
        let words = |words: &[&str]| read(&[&["escherctl"], words].concat()).words;
        assert_eq!(
            words(&["run", "-qe", "A=1", "make", "-j", ""]),
            ["escherctl", "run", "-qe", "A=1", "--", "make", "-j", ""]
        );
        for as_it_was in [
            &["run", "ma"][..],
            &["run", "-u", ""],
            &["run", "--", "make", "-j"],
            &["run", "--shell", "a b", ""],
            &["wait", "1", "2"],
            &[""],
        ] {
            assert_eq!(words(as_it_was)[1..], *as_it_was);
        }
    }

    #[test]
    fn the_socket_is_known_whatever_else_is_missing() {
        let socket = Some(PathBuf::from("/s"));
        assert_eq!(read(&["escherctl", "--socket", "/s", ""]).socket(), socket);
        assert_eq!(
            read(&["escherctl", "kill", "--socket=/s", "-s"]).socket(),
            socket
        );
        assert_eq!(read(&["escherctl", "ps", "--socket"]).socket(), None);
        assert_eq!(
            read(&["escherctl", "run", "x", "--socket", "/s"]).socket(),
            None
        );
    }
}
