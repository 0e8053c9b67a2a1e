//! The manual page of the launcher, from its help.

use anyhow::Context;
use clap_mangen::roff::{Roff, bold, roman};
use escher_launcher::HELP;

use crate::page::{self, Page};

/// Returns the page. The help has the usage, the purpose of the program, and a line for each option.
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
    page::add_name(&mut roff, "escher-launcher", brief);
    roff.control("SH", ["SYNOPSIS"]).text([roman(usage)]);
    roff.control("SH", ["DESCRIPTION"]).text([roman(&*purpose)]);
    roff.control("SH", ["OPTIONS"]);
    for line in options.lines() {
        add_option(&mut roff, line.trim());
    }
    page::add_see_also(&mut roff, &["escherd(8)"]);
    Ok(Page {
        file: "escher-launcher.8".to_owned(),
        text: roff.render(),
    })
}

/// Adds a line of the help: `--log-dir DIR      directory of logs`, or its continuation.
fn add_option(roff: &mut Roff, line: &str) {
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
