//! The page of the launcher, out of its help.

use anyhow::Context;
use clap_mangen::roff::{Roff, bold, roman};
use escher_launcher::HELP;

use crate::page::{self, Page};

/// The page: the help has the usage, what the program is for, and a line for each option.
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
    page::see_also(&mut roff, &["escherd(8)"]);
    Ok(Page {
        file: "escher-launcher.8".to_owned(),
        text: roff.render(),
    })
}

/// `--log-dir DIR      where the output of commands goes`, or a line that goes on.
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
