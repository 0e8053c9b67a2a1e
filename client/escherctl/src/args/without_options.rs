//! `run COMMAND…` and `submit COMMAND…` without options.
//!
//! These lines, the most frequent ones, have the same meaning whatever options are defined. So they are read without a
//! definition, which takes as long as all else that escherctl does itself.

use std::ffi::OsString;

use super::request::{RequestArgs, RunArgs, SubmitArgs};
use super::{Cli, GlobalArgs, Verb, is_option};

/// Parses the words of a command line; `None` if it is another one, or not valid.
pub(super) fn parse(words: &[OsString]) -> Option<Cli> {
    let [_program, verb, rest @ ..] = words else {
        return None;
    };
    let command = match rest {
        [separator, command @ ..] if separator == "--" => command,
        [option, ..] if is_option(option) => return None,
        command => command,
    };
    if command.is_empty() {
        return None;
    }
    let request = || RequestArgs {
        command: command.to_vec(),
        ..RequestArgs::default()
    };
    let verb = if verb == "run" {
        Verb::Run(RunArgs {
            request: request(),
            ..RunArgs::default()
        })
    } else if verb == "submit" {
        Verb::Submit(SubmitArgs {
            request: request(),
            ..SubmitArgs::default()
        })
    } else {
        return None;
    };
    Some(Cli {
        global: GlobalArgs::default(),
        verb,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{definition, parse_by};

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn such_lines_mean_what_the_definition_says() {
        for line in [
            "escherctl run true",
            "escherctl run -- true",
            "escherctl submit make -j4 --json",
            "escherctl submit -- make -- -q",
            "escherctl run ls -- -x -h",
            "escherctl run -- --odd -- x",
            "escherctl run -- --",
            "escherctl run help",
            "escherctl run ",
            "escherctl run a=b -",
        ] {
            let parsed = parse(&words(line)).unwrap();
            let expected = parse_by(definition(), &words(line)).unwrap();
            assert_eq!(format!("{parsed:?}"), format!("{expected:?}"), "{line}");
        }
    }

    #[test]
    fn all_other_lines_are_left_to_the_definition() {
        for line in [
            "escherctl",
            "escherctl run",
            "escherctl run --",
            "escherctl run - x",
            "escherctl run -q ls",
            "escherctl run --help",
            "escherctl -q run ls",
            "escherctl wait 1",
            "escherctl --version",
        ] {
            assert!(parse(&words(line)).is_none(), "{line}");
        }
    }
}
