//! The order of help texts: what a verb is, its usage, examples, and then the details.

use clap::Command;
use clap::builder::styling::Styles;

/// The verbs in the order of the help text, by how often and for what they are used.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Everyday",
        &["run", "submit", "ps", "logs", "wait", "cancel"],
    ),
    (
        "Looking",
        &["inspect", "result", "attach", "top", "events", "quota"],
    ),
    (
        "Managing",
        &["kill", "pause", "resume", "send", "rm", "prune"],
    ),
    (
        "Service",
        &["info", "doctor", "metrics", "config", "reload", "help"],
    ),
];

const OF_A_VERB: &str =
    "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}{all-args}\n";

/// Sets the order of the help texts of a program and its verbs.
pub(super) fn arranged(program: Command) -> Command {
    let template = of_program(&program);
    program.mut_subcommands(of_verb).help_template(template)
}

fn of_verb(verb: Command) -> Command {
    verb.help_template(OF_A_VERB).mut_subcommands(of_verb)
}

fn of_program(program: &Command) -> String {
    let header = *Styles::styled().get_header();
    let mut template = "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}".to_owned();
    for (group, verbs) in GROUPS {
        template.push_str(&format!("{header}{group}:{header:#}\n"));
        for verb in verbs {
            template.push_str(&line(program, verb));
        }
        template.push('\n');
    }
    template + &format!("{header}Global options:{header:#}\n{{options}}\n")
}

/// Returns the line of a verb.
fn line(program: &Command, name: &str) -> String {
    let Some(verb) = program.find_subcommand(name) else {
        // clap adds this one later.
        return format!("  {name:9} Print the help of a verb\n");
    };
    let about = verb
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let aliases: Vec<&str> = verb.get_visible_aliases().collect();
    match aliases.as_slice() {
        [] => format!("  {name:9} {about}\n"),
        aliases => format!("  {name:9} {about} (also {})\n", aliases.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::definition;

    #[test]
    fn every_verb_is_in_one_group() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|group| group.1).copied().collect();
        grouped.retain(|verb| *verb != "help");
        grouped.sort_unstable();
        let definition = definition();
        let mut verbs: Vec<&str> = definition
            .get_subcommands()
            .map(|verb| verb.get_name())
            .collect();
        verbs.sort_unstable();
        assert_eq!(grouped, verbs);
    }

    #[test]
    fn what_it_is_comes_before_the_usage_and_that_before_examples() {
        let mut program = definition();
        let in_order = |help: &str| {
            let places = ["Usage:", "Examples:"].map(|word| help.find(word).unwrap());
            assert!(0 < places[0] && places[0] < places[1], "{help}");
        };
        in_order(&program.render_long_help().to_string());
        for verb in ["run", "ps", "prune"] {
            let verb = program.find_subcommand_mut(verb).unwrap();
            in_order(&verb.render_long_help().to_string());
        }
    }

    #[test]
    fn the_list_of_verbs_fits_a_narrow_terminal() {
        let help = definition().render_help().to_string();
        let (_, verbs) = help.split_once("Everyday:\n").unwrap();
        for line in verbs.lines().take_while(|line| *line != "Global options:") {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
