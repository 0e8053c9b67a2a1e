//! TOML. The parser goes on after a fault, so that all of them are found.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Document, Entry, Format, Garbled, Lines, Table, Typed};
use crate::config::error::shown;

pub(super) fn parse(text: &str) -> Document {
    let lines = Lines::of(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut garbled: Vec<Garbled> = errors
        .iter()
        .map(|error| {
            let place = error.span().map_or(0, |span| span.start);
            lines.garbled(lines.number(place), reason(error.message()))
        })
        .collect();
    garbled.sort_by_key(|garbled| garbled.line);
    // What is said first of a line is what is wrong with it, the rest follows from that.
    garbled.dedup_by_key(|garbled| garbled.line);

    let (mut top, mut tables) = (Vec::new(), Vec::new());
    for (name, value) in root.get_ref() {
        match value.get_ref() {
            DeValue::Table(table) => tables.push(Table {
                name: name.get_ref().to_string(),
                line: lines.number(name.span().start),
                entries: entries(table, &lines, &garbled),
            }),
            _ => top.extend(entry(name, value, &lines, &garbled)),
        }
    }
    Document {
        format: Format::Toml,
        top,
        tables,
        garbled,
    }
}

fn reason(message: &str) -> String {
    match message {
        "duplicate key" => "duplicate key; keep one of the two".to_owned(),
        message => message.replace('\n', "; "),
    }
}

fn entries(table: &DeTable<'_>, lines: &Lines<'_>, garbled: &[Garbled]) -> Vec<Entry> {
    let read = table
        .iter()
        .filter_map(|(key, value)| entry(key, value, lines, garbled));
    read.collect()
}

/// `None` where it is garbled: what the parser made of it is a guess.
fn entry(
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    lines: &Lines<'_>,
    garbled: &[Garbled],
) -> Option<Entry> {
    let line = lines.number(key.span().start);
    let last = lines.number(value.span().end.saturating_sub(1)).max(line);
    let mut faults = garbled.iter();
    if faults.any(|garbled| (line..=last).contains(&garbled.line)) {
        return None;
    }
    Some(Entry {
        key: key.get_ref().to_string(),
        value: typed(value.get_ref()),
        line,
        shown: shown(lines.text.get(value.span()).unwrap_or_default()),
    })
}

fn typed(value: &DeValue<'_>) -> Typed {
    match value {
        DeValue::String(text) => Typed::Text(text.as_ref().into()),
        DeValue::Integer(number) => Typed::number(number.as_str(), number.radix()),
        DeValue::Boolean(flag) => Typed::Flag(*flag),
        DeValue::Float(_) => Typed::Other("a fraction"),
        DeValue::Datetime(_) => Typed::Other("a date"),
        DeValue::Array(_) => Typed::Other("a list"),
        DeValue::Table(_) => Typed::Other("a table"),
    }
}
