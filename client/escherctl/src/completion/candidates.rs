//! What stands for each value.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::{Arg, Command, ValueHint};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use escher_client::Status;
use nix::sys::signal::Signal;

use super::executions::{self, Stage};
use super::words::Line;
use crate::args::property::PROPERTIES;

/// `command`, with something on offer for the values of what is in `line`.
pub(super) fn offer(command: Command, line: &Line) -> Command {
    command.mut_subcommands(|verb| {
        let stage = stage(verb.get_name());
        verb.mut_args(|arg| offer_values(arg, stage, line))
    })
}

fn offer_values(arg: Arg, stage: Stage, line: &Line) -> Arg {
    match arg.get_id().as_str() {
        "target" | "targets" => {
            let socket = line.socket();
            arg.add(ArgValueCandidates::new(move || {
                executions::candidates(socket.clone(), stage)
            }))
        }
        "filters" => arg.add(ArgValueCompleter::new(filters)),
        "properties" => arg.add(ArgValueCandidates::new(properties)),
        "signal" => arg.add(ArgValueCandidates::new(signals)),
        "user" if arg.get_action().takes_values() => arg.add(ArgValueCandidates::new(users)),
        "command" if line.is_in_command() => arg.value_hint(ValueHint::AnyPath),
        "command" => arg.add(ArgValueCompleter::new(programs)),
        _ => arg,
    }
}

/// Which executions a verb is for.
fn stage(verb: &str) -> Stage {
    match verb {
        "wait" | "cancel" | "kill" | "pause" | "resume" => Stage::Unfinished,
        "rm" => Stage::Finished,
        _ => Stage::Any,
    }
}

/// Those of `candidates` that `current` begins.
fn beginning(
    current: &OsStr,
    candidates: impl IntoIterator<Item = CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let current = current.as_encoded_bytes();
    let fits = |candidate: &CompletionCandidate| {
        candidate
            .get_value()
            .as_encoded_bytes()
            .starts_with(current)
    };
    candidates.into_iter().filter(fits).collect()
}

fn filters(current: &OsStr) -> Vec<CompletionCandidate> {
    let prefixed = |key: &str, values: Vec<CompletionCandidate>| {
        let prefixed = values.into_iter().map(|value| value.add_prefix(key));
        beginning(current, prefixed.collect::<Vec<_>>())
    };
    let written = current.as_encoded_bytes();
    if written.starts_with(b"status=") {
        let names = Status::TABLE.map(|(_, name)| CompletionCandidate::new(name));
        return prefixed("status=", names.into());
    }
    if written.starts_with(b"user=") {
        return prefixed("user=", users());
    }
    let keys = [
        ("status=", "how far it is"),
        ("user=", "as whom it runs"),
        ("name=", "its name"),
        ("label.", "one of its labels: label.KEY=VALUE"),
    ];
    let more = keys
        .into_iter()
        .filter(|(key, _)| key.as_bytes() != written);
    let more = more.map(|(key, help)| CompletionCandidate::new(key).help(Some(help.into())));
    beginning(current, more)
}

fn properties() -> Vec<CompletionCandidate> {
    let offer = |(name, example): (&str, &str)| {
        CompletionCandidate::new(format!("{name}=")).help(Some(example.to_owned().into()))
    };
    PROPERTIES.map(offer).into()
}

/// Names as kill(1) has them; with SIG before only where that was begun.
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

/// The host's own users. There may be others, of directories that are not to be listed at every key.
fn users() -> Vec<CompletionCandidate> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = passwd.lines().filter_map(|line| line.split(':').next());
    let names = names.filter(|name| !name.is_empty() && !name.starts_with('#'));
    names.map(CompletionCandidate::new).collect()
}

/// A program by its path, or by its name in one of the directories of PATH.
fn programs(current: &OsStr) -> Vec<CompletionCandidate> {
    if current.is_empty() || current.as_encoded_bytes().contains(&b'/') {
        return PathCompleter::any().filter(is_program).complete(current);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let entries = std::env::split_paths(&path).filter_map(|directory| fs::read_dir(directory).ok());
    let named = entries.flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes()
            .starts_with(current.as_encoded_bytes())
            && is_program(&entry.path())
    });
    let names: BTreeSet<OsString> = named.map(|entry| entry.file_name()).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_can_be_known_is_on_offer() {
        let words = ["escherctl", ""].map(OsString::from);
        let command = crate::command().disable_help_subcommand(true);
        let mut command = offer(command, &Line::read(words.into()));
        command.build();
        let mut offered = 0;
        for verb in command.get_subcommands() {
            for arg in verb.get_arguments() {
                let value = match arg.get_value_names() {
                    Some([name]) => name.as_str(),
                    _ => arg.get_id().as_str(),
                };
                let is_known = matches!(value, "ID" | "COMMAND" | "USER" | "SIGNAL")
                    || matches!(arg.get_long(), Some("filter" | "property"));
                let is_offered = arg.get::<ArgValueCandidates>().is_some()
                    || arg.get::<ArgValueCompleter>().is_some();
                assert_eq!(is_known, is_offered, "{arg} of {}", verb.get_name());
                offered += usize::from(is_offered);
            }
        }
        assert!(offered > 12, "{offered}");
    }

    #[test]
    fn a_filter_has_keys_and_some_keys_have_values() {
        let values = |current: &str| -> Vec<String> {
            let found = filters(current.as_ref()).into_iter();
            found
                .map(|candidate| candidate.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(values(""), ["status=", "user=", "name=", "label."]);
        assert_eq!(values("status=f"), ["status=failed"]);
        assert_eq!(values("user=roo"), ["user=root"]);
        assert!(values("name=").is_empty() && values("label.k=").is_empty());
    }
}
