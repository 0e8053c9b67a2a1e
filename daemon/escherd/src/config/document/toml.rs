//! Parses TOML. The parser goes on after a syntax error, so that all of them are found.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Document, Entry, Format, Lines, RawValue, SyntaxError, Table};
use crate::config::error::quote;

pub(super) fn parse(text: &str) -> Document {
    let lines = Lines::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut syntax_errors: Vec<SyntaxError> = errors
        .iter()
        .map(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            lines.syntax_error(lines.number(offset), reason(error.message()))
        })
        .collect();
    syntax_errors.sort_by_key(|error| error.line);
    // The first error of a line is its cause, the others follow from it.
    syntax_errors.dedup_by_key(|error| error.line);

    let (mut top_level, mut tables) = (Vec::new(), Vec::new());
    for (name, value) in root.get_ref() {
        match value.get_ref() {
            DeValue::Table(table) => tables.push(Table {
                name: name.get_ref().to_string(),
                line: lines.number(name.span().start),
                entries: entries(table, &lines, &syntax_errors),
            }),
            _ => top_level.extend(entry(name, value, &lines, &syntax_errors)),
        }
    }
    Document {
        format: Format::Toml,
        top_level,
        tables,
        syntax_errors,
    }
}

fn reason(message: &str) -> String {
    match message {
        "duplicate key" => "duplicate key; remove one".to_owned(),
        message => message.replace('\n', "; "),
    }
}

fn entries(table: &DeTable<'_>, lines: &Lines<'_>, syntax_errors: &[SyntaxError]) -> Vec<Entry> {
    let read = table
        .iter()
        .filter_map(|(key, value)| entry(key, value, lines, syntax_errors));
    read.collect()
}

/// Returns `None` where there is a syntax error: the parser's value is a guess.
fn entry(
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    lines: &Lines<'_>,
    syntax_errors: &[SyntaxError],
) -> Option<Entry> {
    let line = lines.number(key.span().start);
    let last = lines.number(value.span().end.saturating_sub(1)).max(line);
    let mut syntax_errors = syntax_errors.iter();
    if syntax_errors.any(|error| (line..=last).contains(&error.line)) {
        return None;
    }
    Some(Entry {
        key: key.get_ref().to_string(),
        value: raw_value(value.get_ref()),
        line,
        quoted: quote(lines.text.get(value.span()).unwrap_or_default()),
    })
}

fn raw_value(value: &DeValue<'_>) -> RawValue {
    match value {
        DeValue::String(text) => RawValue::Text(text.as_ref().into()),
        DeValue::Integer(number) => RawValue::number(number.as_str(), number.radix()),
        DeValue::Boolean(flag) => RawValue::Flag(*flag),
        DeValue::Float(_) => RawValue::Other("a fraction"),
        DeValue::Datetime(_) => RawValue::Other("a date"),
        DeValue::Array(_) => RawValue::Other("a list"),
        DeValue::Table(_) => RawValue::Other("a table"),
    }
}
