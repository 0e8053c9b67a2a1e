//! JSON. Every value is kept as it is written, for its place, and every key, for those that are there twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Document, Entry, Format, Lines, Table, Typed};
use crate::config::error::shown;

pub(super) fn parse(text: &str) -> Document {
    let lines = Lines::of(text);
    let (members, error) = members(text);
    let (mut top, mut tables) = (Vec::new(), Vec::new());
    for (name, value) in members {
        let line = lines.number(place(value, text));
        match typed(value) {
            Typed::Other(A_TABLE) => tables.push(Table {
                name,
                line,
                entries: entries(value, &lines),
            }),
            _ => top.push(entry(name, value, &lines)),
        }
    }
    let garbled = error.map(|error| {
        let message = error.to_string();
        let reason = message.rsplit_once(" at line ").map(|parts| parts.0);
        lines.garbled(error.line().max(1), reason.unwrap_or(&message).to_owned())
    });
    Document {
        format: Format::Json,
        top,
        tables,
        garbled: garbled.into_iter().collect(),
    }
}

const A_TABLE: &str = "a table";

/// What the object `text` has in it, as far as it can be read, and what is wrong with the rest.
fn members(text: &str) -> (Vec<(String, &RawValue)>, Option<serde_json::Error>) {
    let mut members = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Members(&mut members).deserialize(&mut json);
    let error = read.and_then(|()| json.end()).err();
    (members, error)
}

fn entries(table: &RawValue, lines: &Lines<'_>) -> Vec<Entry> {
    // It was read once already: nothing is wrong with it.
    let (members, _) = members(table.get());
    let entries = members
        .into_iter()
        .map(|(key, value)| entry(key, value, lines));
    entries.collect()
}

fn entry(key: String, value: &RawValue, lines: &Lines<'_>) -> Entry {
    Entry {
        key,
        value: typed(value),
        line: lines.number(place(value, lines.text)),
        shown: shown(value.get()),
    }
}

/// Where `value` begins in `text`, of which it is a part.
fn place(value: &RawValue, text: &str) -> usize {
    let start = text.as_ptr().addr();
    value.get().as_ptr().addr().saturating_sub(start)
}

fn typed(value: &RawValue) -> Typed {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => Typed::Other(A_TABLE),
        Some(b'[') => Typed::Other("a list"),
        Some(b't' | b'f') => Typed::Flag(text == "true"),
        Some(b'n') => Typed::Nothing,
        Some(b'"') => match serde_json::from_str::<String>(text) {
            Ok(text) => Typed::Text(text.into()),
            // Half of a surrogate pair.
            Err(_) => Typed::Other("text that is no Unicode"),
        },
        _ => Typed::number(text, 10),
    }
}

/// Collects the members of an object, those that are there twice as well.
struct Members<'m, 't>(&'m mut Vec<(String, &'t RawValue)>);

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
