//! Candidates for the values of options and arguments.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::{Arg, Command};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use escher_client::Status;
use nix::sys::signal::Signal;

use super::command_line::CommandLine;
use super::executions::{self, StateFilter};
use crate::args::property::PROPERTIES;

/// Adds candidates for the values of `command`.
pub(super) fn add_candidates(command: Command, line: &CommandLine) -> Command {
    command.mut_subcommands(|verb| {
        let name = verb.get_name().to_owned();
        verb.mut_args(|arg| add_to_argument(arg, &name, line))
    })
}

fn add_to_argument(arg: Arg, verb: &str, line: &CommandLine) -> Arg {
    let states = accepted_states(verb);
    match arg.get_id().as_str() {
        "target" | "targets" => {
            let escherd = line.escherd().clone();
            arg.add(ArgValueCandidates::new(move || {
                executions::candidates(escherd.clone().choice(), states)
            }))
        }
        "filters" if verb == "events" => arg.add(ArgValueCompleter::new(event_filters)),
        "filters" => arg.add(ArgValueCompleter::new(filters)),
        "properties" => arg.add(ArgValueCandidates::new(properties)),
        "signal" => arg.add(ArgValueCandidates::new(signals)),
        "user" => arg.add(ArgValueCandidates::new(users)),
        "command" => arg.add(ArgValueCompleter::new(programs)),
        _ => arg,
    }
}

/// Returns which executions the verb acts on.
fn accepted_states(verb: &str) -> StateFilter {
    match verb {
        "wait" | "cancel" | "kill" | "pause" | "resume" | "send" => StateFilter::Unfinished,
        "rm" => StateFilter::Finished,
        _ => StateFilter::Any,
    }
}

/// Returns the `candidates` that begin with `current`.
fn with_prefix(
    current: &OsStr,
    candidates: impl IntoIterator<Item = CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let current = current.as_encoded_bytes();
    let has_prefix = |candidate: &CompletionCandidate| {
        candidate
            .get_value()
            .as_encoded_bytes()
            .starts_with(current)
    };
    candidates.into_iter().filter(has_prefix).collect()
}

fn filters(current: &OsStr) -> Vec<CompletionCandidate> {
    let prefixed = |key: &str, values: Vec<CompletionCandidate>| {
        let prefixed = values.into_iter().map(|value| value.add_prefix(key));
        with_prefix(current, prefixed.collect::<Vec<_>>())
    };
    let typed = current.as_encoded_bytes();
    if typed.starts_with(b"status=") {
        let names = Status::TABLE.map(|(_, name)| CompletionCandidate::new(name));
        return prefixed("status=", names.into());
    }
    if typed.starts_with(b"user=") {
        return prefixed("user=", users());
    }
    let keys = [
        ("status=", "status of the execution"),
        ("exit=", "exit status of the command"),
        ("user=", "user that the command runs as"),
        ("name=", "name of the execution"),
        ("command=", "words of the command"),
        ("label.", "label of the execution: label.KEY=VALUE"),
    ];
    let keys = keys.into_iter().filter(|(key, _)| key.as_bytes() != typed);
    let keys = keys.map(|(key, help)| CompletionCandidate::new(key).help(Some(help.into())));
    with_prefix(current, keys)
}

/// Returns what `events --filter` takes.
fn event_filters(current: &OsStr) -> Vec<CompletionCandidate> {
    let ends = Status::TABLE
        .into_iter()
        .filter(|(status, _)| status.is_finished());
    let ends = ends.map(|(_, name)| CompletionCandidate::new(format!("status={name}")));
    let name = CompletionCandidate::new("name=").help(Some("name of the execution".into()));
    with_prefix(current, ends.chain([name]))
}

fn properties() -> Vec<CompletionCandidate> {
    let candidate = |(name, example): (&str, &str)| {
        CompletionCandidate::new(format!("{name}=")).help(Some(example.to_owned().into()))
    };
    PROPERTIES.map(candidate).into()
}

/// Returns the names of kill(1); those with SIG are offered only after `SIG` is typed.
fn signals() -> Vec<CompletionCandidate> {
    let mut signals = Vec::new();
    for signal in Signal::iterator() {
        let (name, number) = (signal.as_str(), (signal as i32).to_string());
        let short = name.trim_start_matches("SIG");
        signals.push(CompletionCandidate::new(short).help(Some(number.into())));
        signals.push(CompletionCandidate::new(name).hide(true));
    }
    signals
}

/// Returns the users in /etc/passwd. Directory services are not listed: that may take long.
fn users() -> Vec<CompletionCandidate> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = passwd.lines().filter_map(|line| line.split(':').next());
    let names = names.filter(|name| !name.is_empty() && !name.starts_with('#'));
    names.map(CompletionCandidate::new).collect()
}

/// Returns programs by their path, or by their name in the directories of PATH.
fn programs(current: &OsStr) -> Vec<CompletionCandidate> {
    if current.is_empty() || current.as_encoded_bytes().contains(&b'/') {
        return PathCompleter::any().filter(is_program).complete(current);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let entries = std::env::split_paths(&path).filter_map(|directory| fs::read_dir(directory).ok());
    let matching = entries.flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes()
            .starts_with(current.as_encoded_bytes())
            && is_program(&entry.path())
    });
    let names: BTreeSet<OsString> = matching.map(|entry| entry.file_name()).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::definition;

    #[test]
    fn every_value_that_can_be_listed_has_candidates() {
        let words = ["escherctl", ""].map(OsString::from);
        let command = definition().disable_help_subcommand(true);
        let mut command = add_candidates(command, &CommandLine::parse(words.into()));
        command.build();
        let mut count = 0;
        for verb in command.get_subcommands() {
            for arg in verb.get_arguments() {
                let value = match arg.get_value_names() {
                    Some([name]) => name.as_str(),
                    _ => arg.get_id().as_str(),
                };
                let can_be_listed = matches!(value, "ID" | "COMMAND" | "USER" | "SIGNAL")
                    || matches!(arg.get_long(), Some("filter" | "property"));
                let has_candidates = arg.get::<ArgValueCandidates>().is_some()
                    || arg.get::<ArgValueCompleter>().is_some();
                assert_eq!(
                    can_be_listed,
                    has_candidates,
                    "{arg} of {}",
                    verb.get_name()
                );
                count += usize::from(has_candidates);
            }
        }
        assert!(count > 12, "{count}");
    }

    #[test]
    fn completes_the_keys_of_filters_and_some_values() {
        let values = |current: &str| -> Vec<String> {
            let found = filters(current.as_ref()).into_iter();
            found
                .map(|candidate| candidate.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(
            values(""),
            ["status=", "exit=", "user=", "name=", "command=", "label."]
        );
        assert_eq!(values("status=f"), ["status=failed"]);
        assert_eq!(values("user=roo"), ["user=root"]);
        assert!(values("name=").is_empty() && values("label.k=").is_empty());
    }
}
