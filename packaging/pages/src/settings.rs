//! The manual page escher.toml(5), from `docs/configuration.md`.

use clap_mangen::roff::{Inline, Roff, bold, roman};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::page::{self, Page};

/// The source in the repository.
pub(crate) const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

/// The column that describes the first one.
const DESCRIPTION: &str = "meaning";

/// Makes the page.
pub(crate) fn page(date: &str) -> anyhow::Result<Page> {
    let mut roff = page::begin("escher.toml", "5", date);
    page::name(&mut roff, "escher.toml", "configuration of escherd");
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("/etc/escher/escher.toml")])
        .control("br", []);
    roff.text([bold("/etc/escher/escher.toml.d/*.toml")])
        .control("br", []);
    roff.text([
        bold("~/.config/escher/escher.toml"),
        roman(" (of escherd --user)"),
    ]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut writer = Writer {
        roff,
        is_first: true,
        ..Writer::default()
    };
    for event in Parser::new_ext(DOCUMENT, Options::ENABLE_TABLES) {
        writer.handle(event);
    }
    let mut roff = writer.roff;
    page::see_also(
        &mut roff,
        &["escherctl-config(1)", "escherctl-reload(1)", "escherd(8)"],
    );
    Ok(Page {
        file: "escher.toml.5".to_owned(),
        text: roff.render(),
    })
}

/// Converts Markdown to roff.
#[derive(Default)]
struct Writer {
    roff: Roff,
    /// The text since the last block.
    line: Vec<Inline>,
    /// Whether the next block is the first below a heading, where roff begins a paragraph itself.
    is_first: bool,
    /// The number of the next item, if the list is numbered.
    number: Option<u64>,
    /// The header of the table, and the cells of the current row.
    head: Vec<String>,
    row: Vec<Vec<Inline>>,
}

impl Writer {
    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => self.line.push(roman(&*text)),
            Event::Code(code) => self.line.push(bold(&*code)),
            Event::SoftBreak => self.line.push(roman(" ")),
            Event::Start(tag) => self.begin(&tag),
            Event::End(tag) => self.end(tag),
            // The document contains no other events.
            _ => {}
        }
    }

    fn begin(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::List(first) => self.number = *first,
            Tag::Item => {
                let mark = match &mut self.number {
                    Some(number) => {
                        *number += 1;
                        format!("{}.", *number - 1)
                    }
                    None => "\\(bu".to_owned(),
                };
                self.roff.control("IP", [&*mark, "4"]);
            }
            Tag::Paragraph | Tag::CodeBlock(_) if !std::mem::take(&mut self.is_first) => {
                self.roff.control("PP", []);
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            // The title is that of the page.
            TagEnd::Heading(HeadingLevel::H1) => self.line.clear(),
            TagEnd::Heading(level) => {
                let heading = plain(&std::mem::take(&mut self.line));
                match level {
                    HeadingLevel::H2 => self.roff.control("SH", [&*heading.to_uppercase()]),
                    _ => self.roff.control("SS", [&*heading]),
                };
                self.is_first = true;
            }
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::List(_) => self.number = None,
            TagEnd::CodeBlock => {
                let lines = plain(&std::mem::take(&mut self.line));
                page::verbatim(&mut self.roff, &lines);
            }
            TagEnd::TableCell => self.row.push(std::mem::take(&mut self.line)),
            TagEnd::TableHead => self.head = self.row.drain(..).map(|cell| plain(&cell)).collect(),
            TagEnd::TableRow => self.add_row(),
            _ => {}
        }
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.roff.text(std::mem::take(&mut self.line));
        }
    }

    /// Makes a row into a list entry, since tables are wider than a terminal: the first cell, its
    /// description, then the other cells with the names of their columns.
    fn add_row(&mut self) {
        let mut cells = std::mem::take(&mut self.row).into_iter();
        self.roff.control("TP", []);
        self.roff.text(cells.next().unwrap_or_default());
        let (mut description, mut rest) = (Vec::new(), Vec::new());
        for (cell, head) in cells.zip(self.head.iter().skip(1)) {
            if cell.is_empty() {
                continue;
            }
            if head == DESCRIPTION || (head.is_empty() && self.head.len() == 2) {
                description = cell;
                continue;
            }
            if !rest.is_empty() {
                rest.push(roman(", "));
            }
            if !head.is_empty() {
                rest.push(roman(format!("{head} ")));
            }
            rest.extend(cell);
        }
        let has_both = !description.is_empty() && !rest.is_empty();
        if !description.is_empty() {
            self.roff.text(description);
        }
        if has_both {
            self.roff.control("br", []);
        }
        if !rest.is_empty() {
            self.roff.text(rest);
        }
    }
}

/// Returns the text without its fonts.
fn plain(line: &[Inline]) -> String {
    let text = |inline: &Inline| match inline {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.clone(),
        Inline::LineBreak => "\n".to_owned(),
    };
    line.iter().map(text).collect()
}
