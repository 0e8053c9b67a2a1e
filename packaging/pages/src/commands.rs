//! Pages out of the definitions of arguments.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use crate::page::{self, Page};

/// A page for escherctl and one for each verb, as git has them.
pub(crate) fn escherctl(date: &str) -> anyhow::Result<Vec<Page>> {
    let mut command = escherctl::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    with_verbs(&command, date, &["escherd(8)"], &mut pages)?;
    Ok(pages)
}

/// The page of escherd.
pub(crate) fn escherd(date: &str) -> anyhow::Result<Page> {
    let command = escherd::cli::Arguments::command();
    one(
        command,
        "8",
        date,
        &["escherctl(1)", "escher.toml(5)", "escher-launcher(8)"],
    )
}

/// The page of `command`, which refers to what is `above`, and those of all below it.
fn with_verbs(
    command: &Command,
    date: &str,
    above: &[&str],
    pages: &mut Vec<Page>,
) -> anyhow::Result<()> {
    pages.push(one(command.clone(), "1", date, above)?);
    let this = format!("{}(1)", full_name(command));
    for verb in command.get_subcommands() {
        with_verbs(verb, date, &[&*this], pages)?;
    }
    Ok(())
}

/// The page of this command alone.
fn one(mut command: Command, section: &str, date: &str, related: &[&str]) -> anyhow::Result<Page> {
    let examples = command
        .get_before_help()
        .or(command.get_after_help())
        .map(ToString::to_string);
    let has_verbs = command.has_subcommands();
    let name = full_name(&command).to_owned();
    // As the help says it, which leaves the options to their own section.
    let usage = command.render_usage().to_string();
    let command = command
        .override_usage(usage.trim_start_matches("Usage: ").to_owned())
        .subcommand_help_heading("VERBS");
    let man = Man::new(command).section(section);
    let mut text = page::begin(&name, section, date).render();
    let mut part = |render: fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>| {
        let mut rendered = Vec::new();
        render(&man, &mut rendered)?;
        let rendered = std::str::from_utf8(&rendered)?;
        // Two line breaks around nothing, which is a fault to some readers, are meant as a space.
        text.push_str(&page::body(rendered).replace("\n.br\n\n.br\n", "\n.sp\n"));
        anyhow::Ok(())
    };
    part(Man::render_name_section)?;
    part(Man::render_synopsis_section)?;
    part(Man::render_description_section)?;
    part(Man::render_options_section)?;
    if has_verbs {
        part(Man::render_subcommands_section)?;
    }
    let mut rest = Roff::new();
    if let Some(examples) = examples {
        rest.control("SH", ["EXAMPLES"]);
        // The heading is that of the help; the lines are set in as the page does it.
        let lines = examples
            .lines()
            .skip(1)
            .map(|line| line.strip_prefix("  ").unwrap_or(line));
        page::verbatim(&mut rest, &lines.collect::<Vec<_>>().join("\n"));
    }
    page::see_also(&mut rest, related);
    text.push_str(page::body(&rest.render()));
    Ok(Page {
        file: format!("{name}.{section}"),
        text,
    })
}

/// `escherctl-config-show`
fn full_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}
