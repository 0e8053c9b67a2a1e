//! The parts of a manual page.

use anyhow::Context;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use jiff::Timestamp;

/// A finished manual page.
pub(crate) struct Page {
    /// The file name, such as `escherd.8`.
    pub(crate) file: String,
    pub(crate) text: String,
}

/// Begins a page in a section of the manual.
pub(crate) fn begin(name: &str, section: &str, date: &str) -> Roff {
    let source = concat!("escher ", env!("CARGO_PKG_VERSION"));
    let mut roff = Roff::new();
    let title = name.to_uppercase();
    roff.control("TH", [&*title, section, date, source, "escher"]);
    roff
}

/// Adds the NAME section, which apropos(1) searches.
pub(crate) fn name(roff: &mut Roff, name: &str, purpose: &str) {
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {purpose}"))]);
}

/// Adds lines that are not filled.
pub(crate) fn verbatim(roff: &mut Roff, lines: &str) {
    roff.control("RS", ["4"]).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).control("RE", []);
}

/// Adds references to other pages, such as `escherd(8)`.
pub(crate) fn see_also(roff: &mut Roff, pages: &[&str]) {
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

/// Returns a rendered page without its preamble.
pub(crate) fn body(rendered: &str) -> &str {
    let preamble = Roff::new().render();
    rendered.strip_prefix(&*preamble).unwrap_or(rendered)
}

/// Returns the date of the pages: `SOURCE_DATE_EPOCH`, for reproducible packages, else today.
pub(crate) fn date() -> anyhow::Result<String> {
    const VARIABLE: &str = "SOURCE_DATE_EPOCH";
    let time = match std::env::var(VARIABLE) {
        Ok(seconds) => seconds
            .parse()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .with_context(|| format!("{VARIABLE}={seconds}: expected seconds since 1970"))?,
        Err(_) => Timestamp::now(),
    };
    Ok(time.strftime("%F").to_string())
}
