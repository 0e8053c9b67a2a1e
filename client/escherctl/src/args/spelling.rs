//! Other spellings of verbs and options that a definition of arguments cannot have.

use std::ffi::{OsStr, OsString};

use super::signal::SignalNumber;

/// Other names of verbs, and what they stand for.
const ALIASES: [(&str, &[&str]); 7] = [
    ("ls", &["ps"]),
    ("list", &["ps"]),
    ("stop", &["cancel"]),
    ("status", &["inspect"]),
    ("show", &["inspect"]),
    ("tail", &["logs", "--follow"]),
    ("version", &["--version"]),
];

/// Replaces the alias of a verb, which is the word at `verb`, and options such as `-9` of `kill`.
pub(super) fn spelled_out(words: &[OsString], verb: Option<usize>) -> Vec<OsString> {
    let Some((verb, name)) = verb.and_then(|at| Some((at, words.get(at)?.to_str()?))) else {
        return words.to_vec();
    };
    let (before, after) = (&words[..verb], &words[verb + 1..]);
    let mut aliases = ALIASES.into_iter();
    let (verb, after) = match aliases.find(|alias| alias.0 == name) {
        Some((_, meaning)) => (meaning.to_vec(), after.to_vec()),
        None if name == "kill" => (vec![name], with_signal_options(after)),
        None => (vec![name], after.to_vec()),
    };
    let verb = verb.into_iter().map(OsString::from);
    before.iter().cloned().chain(verb).chain(after).collect()
}

/// Replaces `-9` and `-HUP` by `--signal=9` and `--signal=HUP`.
fn with_signal_options(words: &[OsString]) -> Vec<OsString> {
    let mut is_option = true;
    let replaced = words.iter().map(|word| {
        is_option &= word != "--";
        match signal_of(word).filter(|_| is_option) {
            Some(signal) => format!("--signal={signal}").into(),
            None => word.clone(),
        }
    });
    replaced.collect()
}

/// Returns the signal of a word such as `-9` and `-HUP`, which begins no option.
fn signal_of(word: &OsStr) -> Option<&str> {
    let signal = word.to_str()?.strip_prefix('-')?;
    let is_number = signal.starts_with(|c: char| c.is_ascii_digit());
    let is_name = signal.len() > 1 && !signal.contains(|c: char| c.is_ascii_lowercase());
    (is_number || is_name && signal.parse::<SignalNumber>().is_ok()).then_some(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(words: &str, verb: usize) -> String {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let spelled = spelled_out(&words, Some(verb));
        spelled.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn aliases_stand_for_verbs_and_options() {
        for (words, verb, expected) in [
            ("c ls -a", 1, "c ps -a"),
            ("c --json list", 2, "c --json ps"),
            ("c stop 1", 1, "c cancel 1"),
            ("c status 1", 1, "c inspect 1"),
            ("c tail -n 5 1", 1, "c logs --follow -n 5 1"),
            ("c version", 1, "c --version"),
            ("c run ls", 1, "c run ls"),
            ("c config show", 1, "c config show"),
        ] {
            assert_eq!(spelled(words, verb), expected);
        }
        let no_verb = [OsString::from("c")];
        assert_eq!(spelled_out(&no_verb, None), no_verb);
    }

    #[test]
    fn signals_of_kill_may_be_options() {
        for (words, expected) in [
            ("c kill -9 1", "c kill --signal=9 1"),
            ("c kill 1 -SIGHUP", "c kill 1 --signal=SIGHUP"),
            ("c kill -RTMIN+1 1", "c kill --signal=RTMIN+1 1"),
            ("c kill -s 9 -q 1", "c kill -s 9 -q 1"),
            ("c kill -V", "c kill -V"),
            ("c kill -99 1", "c kill --signal=99 1"),
            ("c kill -- -9", "c kill -- -9"),
            ("c cancel -9 1", "c cancel -9 1"),
        ] {
            assert_eq!(spelled(words, 1), expected);
        }
    }
}
