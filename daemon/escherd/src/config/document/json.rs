//! Parses JSON. Values are kept as they are written, because their positions give their lines; so
//! are duplicate keys.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue as RawJson;

use super::{Document, Entry, Format, Lines, RawValue, Table};
use crate::config::error::quote;

pub(super) fn parse(text: &str) -> Document {
    let lines = Lines::new(text);
    let (members, error) = members(text);
    let (mut top_level, mut tables) = (Vec::new(), Vec::new());
    for (name, value) in members {
        let line = lines.number(offset(value, text));
        match raw_value(value) {
            RawValue::Other(A_TABLE) => tables.push(Table {
                name,
                line,
                entries: entries(value, &lines),
            }),
            _ => top_level.push(entry(name, value, &lines)),
        }
    }
    let syntax_error = error.map(|error| {
        let message = error.to_string();
        let reason = message.rsplit_once(" at line ").map(|parts| parts.0);
        lines.syntax_error(error.line().max(1), reason.unwrap_or(&message).to_owned())
    });
    Document {
        format: Format::Json,
        top_level,
        tables,
        syntax_errors: syntax_error.into_iter().collect(),
    }
}

const A_TABLE: &str = "a table";

/// Returns the members of the object `text` up to the first error, and that error.
fn members(text: &str) -> (Vec<(String, &RawJson)>, Option<serde_json::Error>) {
    let mut members = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Members(&mut members).deserialize(&mut json);
    let error = read.and_then(|()| json.end()).err();
    (members, error)
}

fn entries(table: &RawJson, lines: &Lines<'_>) -> Vec<Entry> {
    // There is no error: the table was parsed before, as a part of the file.
    let (members, _) = members(table.get());
    let entries = members
        .into_iter()
        .map(|(key, value)| entry(key, value, lines));
    entries.collect()
}

fn entry(key: String, value: &RawJson, lines: &Lines<'_>) -> Entry {
    Entry {
        key,
        value: raw_value(value),
        line: lines.number(offset(value, lines.text)),
        quoted: quote(value.get()),
    }
}

/// Returns where `value` begins in `text`, of which it is a part.
fn offset(value: &RawJson, text: &str) -> usize {
    let start = text.as_ptr().addr();
    value.get().as_ptr().addr().saturating_sub(start)
}

fn raw_value(value: &RawJson) -> RawValue {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => RawValue::Other(A_TABLE),
        Some(b'[') => RawValue::Other("a list"),
        Some(b't' | b'f') => RawValue::Flag(text == "true"),
        Some(b'n') => RawValue::Null,
        Some(b'"') => match serde_json::from_str::<String>(text) {
            Ok(text) => RawValue::Text(text.into()),
            // Half of a surrogate pair.
            Err(_) => RawValue::Other("text that is not valid Unicode"),
        },
        _ => RawValue::number(text, 10),
    }
}

/// Collects the members of an object, including duplicates.
struct Members<'m, 't>(&'m mut Vec<(String, &'t RawJson)>);

impl<'t> DeserializeSeed<'t> for Members<'_, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'t> Visitor<'t> for Members<'_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table in braces")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(())
    }
}
