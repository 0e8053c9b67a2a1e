//! The definition of one verb alone.
//!
//! To define all verbs, with their help, costs more than all else that escherctl does before it asks escherd. So a
//! command line is first parsed by a definition of its verb without help. Lines that it does not accept are left to the
//! whole definition, from which help and errors come.

use clap::error::ErrorKind;
use clap::{Args, Command, Error};

use super::GlobalArgs;
use super::escherd_choice::accept_behind_verbs;
use super::request::{RunArgs, SubmitArgs};
use super::selection::{PruneArgs, PsArgs, TargetsOrFilterArgs};
use super::verbs::{
    AttachArgs, CancelArgs, ConfigArgs, EventsArgs, KillArgs, LogsArgs, QuotaArgs, SendArgs,
    TargetArgs, TargetsArgs, TopArgs, WaitArgs,
};

/// Adds the arguments of a verb.
type AddArguments = fn(Command) -> Command;

/// The verbs. One that is missing here is parsed by the whole definition.
const VERBS: [(&str, AddArguments); 23] = [
    ("run", RunArgs::augment_args),
    ("submit", SubmitArgs::augment_args),
    ("wait", WaitArgs::augment_args),
    ("ps", PsArgs::augment_args),
    ("inspect", TargetsArgs::augment_args),
    ("result", TargetArgs::augment_args),
    ("logs", LogsArgs::augment_args),
    ("attach", AttachArgs::augment_args),
    ("send", SendArgs::augment_args),
    ("cancel", CancelArgs::augment_args),
    ("kill", KillArgs::augment_args),
    ("pause", TargetsOrFilterArgs::augment_args),
    ("resume", TargetsOrFilterArgs::augment_args),
    ("rm", TargetsOrFilterArgs::augment_args),
    ("prune", PruneArgs::augment_args),
    ("top", TopArgs::augment_args),
    ("events", EventsArgs::augment_args),
    ("info", |verb| verb),
    ("quota", QuotaArgs::augment_args),
    ("metrics", |verb| verb),
    ("config", ConfigArgs::augment_args),
    ("reload", |verb| verb),
    ("doctor", |verb| verb),
];

/// Returns the definition for a command line with this verb, or without one if it is empty. `None` if it is missing
/// here.
pub(super) fn definition_of(verb: &str) -> Option<Command> {
    let root = Command::new("escherctl").version(env!("CARGO_PKG_VERSION"));
    let root = GlobalArgs::augment_args(root.disable_help_subcommand(true));
    if verb.is_empty() {
        return Some(root);
    }
    let (name, add_arguments) = VERBS.into_iter().find(|(name, _)| *name == verb)?;
    let verb = add_arguments(Command::new(name));
    Some(accept_behind_verbs(root.subcommand(verb)))
}

/// Whether the whole definition would not do better than fail with this: the version was requested.
pub(super) fn is_final(error: &Error) -> bool {
    error.kind() == ErrorKind::DisplayVersion
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::definition;

    fn arguments(command: &Command) -> Vec<String> {
        let arguments = command.get_arguments();
        arguments.map(|argument| format!("{argument:?}")).collect()
    }

    /// Returns what parsing depends on.
    fn parsed_by(command: &Command) -> Vec<String> {
        let groups = command.get_groups().map(|group| format!("{group:?}"));
        let verbs = command.get_subcommands().flat_map(|verb| {
            let name = verb.get_name().to_owned();
            std::iter::once(name).chain(parsed_by(verb))
        });
        let arguments = arguments(command).into_iter();
        arguments.chain(groups).chain(verbs).collect()
    }

    #[test]
    fn a_verb_alone_is_parsed_as_among_all() {
        let all = definition();
        for (name, _) in VERBS {
            let among_all = all.find_subcommand(name).unwrap();
            let root = definition_of(name).unwrap();
            let alone = root.find_subcommand(name).unwrap();
            assert_eq!(parsed_by(alone), parsed_by(among_all), "{name}");
            for is_set in [
                Command::is_subcommand_required_set,
                Command::is_arg_required_else_help_set,
                Command::is_args_conflicts_with_subcommands_set,
                Command::is_trailing_var_arg_set,
                Command::is_allow_external_subcommands_set,
            ] {
                assert_eq!(is_set(alone), is_set(among_all), "{name}");
            }
        }
    }

    #[test]
    fn global_options_are_the_same_with_one_verb() {
        let without_verb = definition_of("").unwrap();
        assert_eq!(arguments(&without_verb), arguments(&definition()));
    }
}
