//! What all pages have in common.

use anyhow::Context;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use jiff::Timestamp;

/// A finished manual page.
pub(crate) struct Page {
    /// `escherd.8`
    pub(crate) file: String,
    pub(crate) text: String,
}

/// The beginning of a page in this section of the manual.
pub(crate) fn begin(name: &str, section: &str, date: &str) -> Roff {
    let source = concat!("escher ", env!("CARGO_PKG_VERSION"));
    let mut roff = Roff::new();
    let title = name.to_uppercase();
    roff.control("TH", [&*title, section, date, source, "escher"]);
    roff
}

/// Name and purpose, by which pages are searched.
pub(crate) fn name(roff: &mut Roff, name: &str, purpose: &str) {
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {purpose}"))]);
}

/// Lines as they are.
pub(crate) fn verbatim(roff: &mut Roff, lines: &str) {
    roff.control("RS", ["4"]).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).control("RE", []);
}

/// Other pages, with their sections: `escherd(8)`.
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

/// The part of a page that comes after what every document begins with.
pub(crate) fn body(rendered: &str) -> &str {
    let preamble = Roff::new().render();
    rendered.strip_prefix(&*preamble).unwrap_or(rendered)
}

/// When the pages were made, as all packages can be told it (`SOURCE_DATE_EPOCH`), else today.
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
