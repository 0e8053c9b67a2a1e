//! The words of a shell's command line, as escherctl reads them.

use std::ffi::{OsStr, OsString};

use clap::ArgMatches;

use crate::args::definition;
use crate::args::escherd_choice::EscherdArgs;

/// The words up to the cursor; the last is at the cursor and may be empty.
pub(super) struct CommandLine {
    words: Vec<OsString>,
    escherd: EscherdArgs,
    /// How many words come before the command to run, if the cursor is after its first word.
    command: Option<usize>,
}

impl CommandLine {
    /// Parses as far as possible: a line is seldom valid while it is being typed.
    pub(super) fn parse(words: Vec<OsString>) -> Self {
        let matches = definition()
            .ignore_errors(true)
            .try_get_matches_from(&words)
            .unwrap_or_default();
        let escherd = EscherdArgs::of(&matches);
        let command_words = command_words(&matches);
        let command = words.len().saturating_sub(command_words);
        CommandLine {
            words,
            escherd,
            command: (command_words > 1).then_some(command),
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

    /// Returns how many words come before the command to run, if the cursor is after its first word. The rest is not
    /// for escherctl to complete.
    pub(super) fn command(&self) -> Option<usize> {
        self.command
    }

    /// The options that choose an escherd.
    pub(super) fn escherd(&self) -> &EscherdArgs {
        &self.escherd
    }
}

/// Returns how many words at the end belong to the command to run.
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
    use escher_client::SocketChoice;

    fn parse(words: &[&str]) -> CommandLine {
        CommandLine::parse(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn what_follows_the_first_word_of_a_command_belongs_to_it() {
        for (words, command) in [
            (&["run", "-qe", "A=1", "make", "-j", ""][..], Some(4)),
            (&["run", "--", "make", "-j"], Some(3)),
            (&["submit", "make", ""], Some(2)),
            (&["run", "ma"], None),
            (&["run", "-u", ""], None),
            (&["run", "--shell", "a b", ""], None),
            (&["wait", "1", "2"], None),
            (&[""], None),
        ] {
            let words = [&["escherctl"], words].concat();
            assert_eq!(parse(&words).command(), command, "{words:?}");
        }
    }

    #[test]
    fn finds_the_escherd_in_an_incomplete_line() {
        let choice = |words: &[&str]| parse(words).escherd().clone().choice();
        let socket = SocketChoice::path("/s");
        assert_eq!(choice(&["escherctl", "--socket", "/s", ""]), socket);
        assert_eq!(choice(&["escherctl", "kill", "--socket=/s", "-s"]), socket);
        let user = SocketChoice::user();
        assert_eq!(choice(&["escherctl", "--user", "kill", "-s"]), user);
        assert_eq!(choice(&["escherctl", "wait", "--user", ""]), user);
        let default = SocketChoice::by_default();
        assert_eq!(choice(&["escherctl", "ps", "--socket"]), default);
        assert_eq!(
            choice(&["escherctl", "run", "x", "--socket", "/s"]),
            default
        );
    }
}
