//! The manual pages of escherctl and escherd, from the definitions of their arguments.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use crate::page::{self, Page};
use crate::sections::{self, Facts};

/// Makes a page for escherctl and one for each verb, as git does.
pub(crate) fn escherctl(date: &str) -> anyhow::Result<Vec<Page>> {
    let mut command = escherctl::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let related = ["escherd(8)", "escher.toml(5)"];
    add_pages(&command, date, &related, &mut pages)?;
    Ok(pages)
}

/// Makes the page of escherd.
pub(crate) fn escherd(date: &str) -> anyhow::Result<Page> {
    let command = escherd::cli::Arguments::command();
    let related = ["escherctl(1)", "escher.toml(5)", "escher-launcher(8)"];
    render(command, "8", date, &sections::ESCHERD, &related)
}

/// Adds the page of `command`, which refers to its `parents`, and those of its verbs.
fn add_pages(
    command: &Command,
    date: &str,
    parents: &[&str],
    pages: &mut Vec<Page>,
) -> anyhow::Result<()> {
    let facts = &sections::ESCHERCTL;
    pages.push(render(command.clone(), "1", date, facts, parents)?);
    let parent = format!("{}(1)", full_name(command));
    for verb in command.get_subcommands() {
        add_pages(verb, date, &[&*parent, "escherd(8)"], pages)?;
    }
    Ok(())
}

/// Renders the page of one command; `related` is its SEE ALSO section.
fn render(
    mut command: Command,
    section: &str,
    date: &str,
    facts: &Facts,
    related: &[&str],
) -> anyhow::Result<Page> {
    let (command_without_status, exit_status) = take_exit_status(command);
    command = command_without_status;
    let examples = command
        .get_before_help()
        .or(command.get_after_help())
        .map(ToString::to_string);
    let has_verbs = command.has_subcommands();
    let name = full_name(&command).to_owned();
    // As in the help text: the options have a section of their own.
    let usage = command.render_usage().to_string();
    let command = command
        .override_usage(usage.trim_start_matches("Usage: ").to_owned())
        .subcommand_help_heading("VERBS");
    let man = Man::new(command).section(section);
    let mut text = page::begin(&name, section, date).render();
    let mut add_section = |render: fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>| {
        let mut rendered = Vec::new();
        render(&man, &mut rendered)?;
        let rendered = std::str::from_utf8(&rendered)?;
        // clap_mangen separates paragraphs by two line breaks, which mandoc warns of.
        text.push_str(&page::body(rendered).replace("\n.br\n\n.br\n", "\n.sp\n"));
        anyhow::Ok(())
    };
    add_section(Man::render_name_section)?;
    add_section(Man::render_synopsis_section)?;
    add_section(Man::render_description_section)?;
    add_section(Man::render_options_section)?;
    if has_verbs {
        add_section(Man::render_subcommands_section)?;
    }
    let mut rest = Roff::new();
    if let Some(examples) = examples {
        rest.control("SH", ["EXAMPLES"]);
        // Without the heading of the help text, and with the page's own indentation.
        let lines = examples
            .lines()
            .skip(1)
            .map(|line| line.strip_prefix("  ").unwrap_or(line));
        page::verbatim(&mut rest, &lines.collect::<Vec<_>>().join("\n"));
    }
    sections::add(&mut rest, facts, exit_status.as_deref());
    page::see_also(&mut rest, related);
    text.push_str(page::body(&rest.render()));
    Ok(Page {
        file: format!("{name}.{section}"),
        text,
    })
}

/// Separates what a command says of its exit status from its description.
fn take_exit_status(command: Command) -> (Command, Option<String>) {
    const BEGIN: &str = "Exit status: ";
    let about = command.get_long_about().map(ToString::to_string);
    let Some((description, rest)) = about.as_deref().and_then(|about| about.split_once(BEGIN))
    else {
        return (command, None);
    };
    let (exit_status, more) = rest.split_once("\n\n").unwrap_or((rest, ""));
    let mut exit_status = exit_status.replace('\n', " ");
    if let Some(first) = exit_status.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !exit_status.ends_with('.') {
        exit_status.push('.');
    }
    let description = format!("{}\n\n{more}", description.trim_end());
    let command = command.long_about(description.trim_end().to_owned());
    (command, Some(exit_status))
}

/// Returns the name of the page, such as `escherctl-config-show`.
fn full_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}
