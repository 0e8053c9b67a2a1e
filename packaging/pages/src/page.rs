//! Parts that all manual pages have.

use anyhow::Context;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use jiff::Timestamp;

/// A manual page.
pub(crate) struct Page {
    /// File name: `escherd.8`.
    pub(crate) file: String,
    pub(crate) text: String,
}

/// Begins a page in this section of the manual.
pub(crate) fn begin(name: &str, section: &str, date: &str) -> Roff {
    let source = concat!("escher ", env!("CARGO_PKG_VERSION"));
    let mut roff = Roff::new();
    let title = name.to_uppercase();
    roff.control("TH", [&*title, section, date, source, "escher"]);
    roff
}

/// Adds name and purpose, which apropos(1) searches.
pub(crate) fn add_name(roff: &mut Roff, name: &str, purpose: &str) {
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {purpose}"))]);
}

/// Adds lines without filling them.
pub(crate) fn add_verbatim(roff: &mut Roff, lines: &str) {
    roff.control("RS", ["4"]).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).control("RE", []);
}

/// Adds references to other pages, each as `escherd(8)`.
pub(crate) fn add_see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line: Vec<Inline> = Vec::new();
    for page in pages {
        let (name, section) = page.split_at(page.find('(').unwrap_or(page.len()));
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(name), roman(section)]);
    }
    roff.text(line);
}

/// Removes the preamble of a rendered document.
pub(crate) fn without_preamble(rendered: &str) -> &str {
    let preamble = Roff::new().render();
    rendered.strip_prefix(&*preamble).unwrap_or(rendered)
}

/// Returns the date of the pages: `SOURCE_DATE_EPOCH` (reproducible-builds.org), else today.
pub(crate) fn date() -> anyhow::Result<String> {
    const VARIABLE: &str = "SOURCE_DATE_EPOCH";
    let time = match std::env::var(VARIABLE) {
        Ok(seconds) => seconds
            .parse()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .with_context(|| format!("{VARIABLE}={seconds}: must be seconds since 1970"))?,
        Err(_) => Timestamp::now(),
    };
    Ok(time.strftime("%F").to_string())
}
