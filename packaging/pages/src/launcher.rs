//! The manual page of the launcher, from its help text.

use anyhow::Context;
use clap_mangen::roff::{Roff, bold, roman};
use escher_launcher::HELP;

use crate::page::{self, Page};
use crate::sections;

/// Makes the page. The help text has the usage, the purpose, and a line for each option.
pub(crate) fn page(date: &str) -> anyhow::Result<Page> {
    let (usage, rest) = HELP
        .split_once("\n\n")
        .context("the launcher's help has no usage")?;
    let (purpose, options) = rest
        .split_once("\n\n")
        .context("the launcher's help has no options")?;
    let usage = usage.trim_start_matches("Usage: ");
    let purpose = purpose.replace('\n', " ");
    let brief = purpose.split([',', '.']).next().unwrap_or_default();

    let mut roff = page::begin("escher-launcher", "8", date);
    page::name(&mut roff, "escher-launcher", brief);
    roff.control("SH", ["SYNOPSIS"]).text([roman(usage)]);
    roff.control("SH", ["DESCRIPTION"]).text([roman(&*purpose)]);
    roff.control("SH", ["OPTIONS"]);
    for line in options.lines() {
        option(&mut roff, line.trim());
    }
    sections::add(&mut roff, &sections::LAUNCHER, None);
    page::see_also(&mut roff, &["escherd(8)"]);
    Ok(Page {
        file: "escher-launcher.8".to_owned(),
        text: roff.render(),
    })
}

/// Adds a line of the options: an option with its meaning, or the continuation of a meaning.
fn option(roff: &mut Roff, line: &str) {
    match line.split_once("  ") {
        Some((option, meaning)) => {
            roff.control("TP", []);
            roff.text([bold(option)]).text([roman(meaning.trim())]);
        }
        None => {
            roff.text([roman(line)]);
        }
    }
}
