//! A configuration file as it is written, whatever its format: its keys with their values and lines, and what is
//! wrong with its syntax. Which keys there are is none of its business.

mod json;
mod toml;

use std::ffi::OsString;
use std::path::Path;

use super::error::shown;

/// What a file says.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) format: Format,
    /// What stands outside of all tables.
    pub(super) top: Vec<Entry>,
    pub(super) tables: Vec<Table>,
    /// What is wrong with the syntax.
    pub(super) garbled: Vec<Garbled>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

/// A table with its keys, in any order.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Typed,
    pub(super) line: usize,
    /// The value as it is written, fit to be shown.
    pub(super) shown: String,
}

/// A line that cannot be read.
#[derive(Debug)]
pub(super) struct Garbled {
    pub(super) line: usize,
    /// What stands there, fit to be shown.
    pub(super) shown: String,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// A value, as far as settings tell values apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    Flag(bool),
    Number(u64),
    Text(OsString),
    /// JSON's null.
    Nothing,
    /// What no setting takes, in words.
    Other(&'static str),
}

impl Typed {
    /// The number that these digits of base `radix` are.
    pub(super) fn number(digits: &str, radix: u32) -> Self {
        let is_digit = |digit: char| digit.is_digit(radix);
        let (sign, magnitude) = match digits.strip_prefix(['-', '+']) {
            Some(magnitude) => (digits.starts_with('-'), magnitude),
            None => (false, digits),
        };
        match u64::from_str_radix(magnitude, radix) {
            Ok(0) => Typed::Number(0),
            Ok(number) if !sign => Typed::Number(number),
            _ if magnitude.is_empty() || !magnitude.chars().all(is_digit) => {
                Typed::Other("a fraction")
            }
            _ if sign => Typed::Other("a negative number"),
            _ => Typed::Other("a number beyond 64 bits"),
        }
    }

    /// What it is, in words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Typed::Flag(_) => "true or false",
            Typed::Number(_) => "a number",
            Typed::Text(_) => "text",
            Typed::Nothing => "null",
            Typed::Other(words) => words,
        }
    }
}

impl Document {
    /// Takes `text` apart; the name of its file says how it is written.
    pub(super) fn parse(path: &Path, text: &str) -> Self {
        match path.extension() {
            Some(ending) if ending == "json" => json::parse(text),
            _ => toml::parse(text),
        }
    }
}

/// Finds the lines of places in a text.
struct Lines<'t> {
    text: &'t str,
    /// Where each begins.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(place, _)| place + 1));
        Lines {
            text,
            starts: starts.collect(),
        }
    }

    /// The number, from 1, of the line with the byte at `offset`.
    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// A line that cannot be read.
    fn garbled(&self, line: usize, reason: String) -> Garbled {
        let start = self.starts.get(line.saturating_sub(1)).copied();
        let rest = start.and_then(|start| self.text.get(start..));
        let text = rest.and_then(|rest| rest.lines().next());
        Garbled {
            line,
            shown: shown(text.unwrap_or_default().trim()),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Document {
        Document::parse(Path::new(name), text)
    }

    fn entries(document: &Document) -> Vec<(&str, &str, usize, &str)> {
        let tables = document.tables.iter();
        tables
            .flat_map(|table| {
                table
                    .entries
                    .iter()
                    .map(|entry| (table.name.as_str(), entry))
            })
            .chain(document.top.iter().map(|entry| ("", entry)))
            .map(|(table, entry)| (table, entry.key.as_str(), entry.line, entry.shown.as_str()))
            .collect()
    }

    #[test]
    fn both_formats_say_the_same_with_lines() {
        let toml = parse(
            "a.toml",
            "profile = \"p\"\n\n[execution]\nlog_dir = \"/x\"\n\nmax = 0x1f # a remark\n[store]\n",
        );
        let json = parse(
            "a.json",
            "{\"profile\": \"p\",\n\"execution\": {\n\n \"log_dir\": \"/x\",\n \"max\": 31},\n\"store\": {}}",
        );
        assert_eq!(
            entries(&toml),
            [
                ("execution", "log_dir", 4, "\"/x\""),
                ("execution", "max", 6, "0x1f"),
                ("", "profile", 1, "\"p\"")
            ]
        );
        assert_eq!(
            entries(&json),
            [
                ("execution", "log_dir", 4, "\"/x\""),
                ("execution", "max", 5, "31"),
                ("", "profile", 1, "\"p\"")
            ]
        );
        for document in [&toml, &json] {
            assert!(document.garbled.is_empty());
            assert_eq!(document.tables[0].entries[1].value, Typed::Number(31));
            assert_eq!(document.tables[1].name, "store");
        }
    }

    #[test]
    fn values_are_told_apart() {
        for (written, value) in [
            ("true", Typed::Flag(true)),
            ("18446744073709551615", Typed::Number(u64::MAX)),
            (
                "18446744073709551616",
                Typed::Other("a number beyond 64 bits"),
            ),
            ("-0", Typed::Number(0)),
            ("-1", Typed::Other("a negative number")),
            ("1.5", Typed::Other("a fraction")),
            ("1e3", Typed::Other("a fraction")),
            ("\"a\\u0041\"", Typed::Text("aA".into())),
            ("[1, 2]", Typed::Other("a list")),
        ] {
            let toml = parse("a.toml", &format!("[t]\nk = {written}"));
            let json = parse("a.json", &format!("{{\"t\": {{\"k\": {written}}}}}"));
            for document in [toml, json] {
                assert_eq!(document.tables[0].entries[0].value, value, "{document:?}");
            }
        }
        let toml = parse("a.toml", "[t]\na = 2026-01-01\nb = { v = 1 }\nc = 1_000");
        let values: Vec<_> = toml.tables[0]
            .entries
            .iter()
            .map(|e| e.value.clone())
            .collect();
        let words = [
            Typed::Other("a date"),
            Typed::Other("a table"),
            Typed::Number(1000),
        ];
        assert_eq!(values, words);
        let json = parse(
            "a.json",
            "{\"t\": {\"n\": null, \"u\": {}, \"s\": \"\\ud800\"}}",
        );
        let values: Vec<_> = json.tables[0]
            .entries
            .iter()
            .map(|e| e.value.clone())
            .collect();
        let broken = Typed::Other("text that is no Unicode");
        assert_eq!(values, [Typed::Nothing, Typed::Other("a table"), broken]);
    }

    #[test]
    fn all_garbled_lines_are_found_and_the_others_are_read() {
        let toml = parse(
            "a.toml",
            "[execution]\na = = 1\nb = 2\nc = \"open\nd = 4\nb = 5\n[execution]\ne = tru\nf = 6\n",
        );
        let lines: Vec<usize> = toml.garbled.iter().map(|garbled| garbled.line).collect();
        assert_eq!(lines, [2, 4, 6, 7, 8], "{:?}", toml.garbled);
        assert_eq!(toml.garbled[2].shown, "b = 5");
        assert!(toml.garbled[2].reason.contains("duplicate key"));
        let read: Vec<_> = entries(&toml).iter().map(|entry| entry.1).collect();
        assert_eq!(read, ["b", "d", "f"]);

        let json = parse("a.json", "{\"a\": 1,\n\"t\": {\"b\": 2},\n\"c\": tru}");
        assert_eq!(json.garbled.len(), 1);
        assert_eq!(json.garbled[0].line, 3);
        assert_eq!(entries(&json).len(), 2, "what stands before is read");
        assert_eq!(parse("a.json", "{} {}").garbled.len(), 1);
        assert_eq!(parse("a.json", "[1]").garbled.len(), 1);
        assert_eq!(parse("a.json", "").garbled.len(), 1);
    }
}
