//! The words of a shell's command line, as escherctl reads them.

use std::ffi::{OsStr, OsString};

use clap::ArgMatches;

use crate::args::definition;
use crate::args::escherd_choice::EscherdArgs;

/// The words up to the cursor; the last is at the cursor and may be empty.
pub(super) struct CommandLine {
    words: Vec<OsString>,
    escherd: EscherdArgs,
    is_in_command: bool,
}

impl CommandLine {
    /// Parses as far as possible: a line is seldom valid while it is being typed.
    pub(super) fn parse(mut words: Vec<OsString>) -> Self {
        let matches = definition()
            .ignore_errors(true)
            .try_get_matches_from(&words)
            .unwrap_or_default();
        let escherd = EscherdArgs::of(&matches);
        let command_words = command_words(&matches);
        let command = words.len().saturating_sub(command_words);
        let has_separator = words[..command].last().is_some_and(|word| word == "--");
        if command_words > 1 && !has_separator {
            // Else clap_complete takes the options of the command for those of escherctl.
            words.insert(command, "--".into());
        }
        CommandLine {
            words,
            escherd,
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

    /// Whether the cursor is after the first word of the command to run.
    pub(super) fn is_in_command(&self) -> bool {
        self.is_in_command
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
    fn options_after_the_command_belong_to_it() {
        let words = |words: &[&str]| parse(&[&["escherctl"], words].concat()).words;
        assert_eq!(
            words(&["run", "-qe", "A=1", "make", "-j", ""]),
            ["escherctl", "run", "-qe", "A=1", "--", "make", "-j", ""]
        );
        for unchanged in [
            &["run", "ma"][..],
            &["run", "-u", ""],
            &["run", "--", "make", "-j"],
            &["run", "--shell", "a b", ""],
            &["wait", "1", "2"],
            &[""],
        ] {
            assert_eq!(words(unchanged)[1..], *unchanged);
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
