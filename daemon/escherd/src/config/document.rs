//! A parsed configuration file: its keys with their values and lines, and its syntax errors. The
//! schema, which says which keys are known, is applied by [`super::file_layer`].

mod json;
mod toml;

use std::ffi::OsString;
use std::path::Path;

use super::error::quote;

/// The contents of a file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) format: Format,
    /// Keys outside of all tables.
    pub(super) top_level: Vec<Entry>,
    pub(super) tables: Vec<Table>,
    pub(super) syntax_errors: Vec<SyntaxError>,
}

/// The format of a file.
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
    pub(super) value: RawValue,
    pub(super) line: usize,
    /// The value as it is written, quoted.
    pub(super) quoted: String,
}

/// A line that cannot be parsed.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    /// The line, quoted.
    pub(super) quoted: String,
    pub(super) reason: String,
}

/// A value in a file before it is checked against the type of its setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RawValue {
    Flag(bool),
    Number(u64),
    Text(OsString),
    /// JSON's null.
    Null,
    /// A value that no setting accepts; the words describe it.
    Other(&'static str),
}

impl RawValue {
    /// Parses the digits of a number of base `radix`.
    pub(super) fn number(digits: &str, radix: u32) -> Self {
        let is_digit = |digit: char| digit.is_digit(radix);
        let (is_negative, magnitude) = match digits.strip_prefix(['-', '+']) {
            Some(magnitude) => (digits.starts_with('-'), magnitude),
            None => (false, digits),
        };
        match u64::from_str_radix(magnitude, radix) {
            Ok(0) => RawValue::Number(0),
            Ok(number) if !is_negative => RawValue::Number(number),
            _ if magnitude.is_empty() || !magnitude.chars().all(is_digit) => {
                RawValue::Other("a fraction")
            }
            _ if is_negative => RawValue::Other("a negative number"),
            _ => RawValue::Other("a number beyond 64 bits"),
        }
    }

    /// Names the kind of value in words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            RawValue::Flag(_) => "true or false",
            RawValue::Number(_) => "a number",
            RawValue::Text(_) => "text",
            RawValue::Null => "null",
            RawValue::Other(words) => words,
        }
    }
}

impl Document {
    /// Parses the text of the file at `path`, whose extension tells the format.
    pub(super) fn parse(path: &Path, text: &str) -> Self {
        match path.extension() {
            Some(extension) if extension == "json" => json::parse(text),
            _ => toml::parse(text),
        }
    }
}

/// Finds the line of an offset in a text.
struct Lines<'t> {
    text: &'t str,
    /// Offset of the beginning of each line.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(offset, _)| offset + 1));
        Lines {
            text,
            starts: starts.collect(),
        }
    }

    /// Returns the number, from 1, of the line with the byte at `offset`.
    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// Returns the syntax error of a line.
    fn syntax_error(&self, line: usize, reason: String) -> SyntaxError {
        let start = self.starts.get(line.saturating_sub(1)).copied();
        let rest = start.and_then(|start| self.text.get(start..));
        let text = rest.and_then(|rest| rest.lines().next());
        SyntaxError {
            line,
            quoted: quote(text.unwrap_or_default().trim()),
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
            .chain(document.top_level.iter().map(|entry| ("", entry)))
            .map(|(table, entry)| (table, entry.key.as_str(), entry.line, entry.quoted.as_str()))
            .collect()
    }

    #[test]
    fn parses_both_formats_alike_with_lines() {
        let toml = parse(
            "a.toml",
            "profile = \"p\"\n\n[execution]\nlog_dir = \"/x\"\n\nmax = 0x1f # a comment\n[store]\n",
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
            assert!(document.syntax_errors.is_empty());
            assert_eq!(document.tables[0].entries[1].value, RawValue::Number(31));
            assert_eq!(document.tables[1].name, "store");
        }
    }

    #[test]
    fn distinguishes_values() {
        for (written, value) in [
            ("true", RawValue::Flag(true)),
            ("18446744073709551615", RawValue::Number(u64::MAX)),
            (
                "18446744073709551616",
                RawValue::Other("a number beyond 64 bits"),
            ),
            ("-0", RawValue::Number(0)),
            ("-1", RawValue::Other("a negative number")),
            ("1.5", RawValue::Other("a fraction")),
            ("1e3", RawValue::Other("a fraction")),
            ("\"a\\u0041\"", RawValue::Text("aA".into())),
            ("[1, 2]", RawValue::Other("a list")),
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
            RawValue::Other("a date"),
            RawValue::Other("a table"),
            RawValue::Number(1000),
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
        let broken = RawValue::Other("text that is not valid Unicode");
        assert_eq!(values, [RawValue::Null, RawValue::Other("a table"), broken]);
    }

    #[test]
    fn finds_all_syntax_errors_and_reads_the_other_lines() {
        let toml = parse(
            "a.toml",
            "[execution]\na = = 1\nb = 2\nc = \"open\nd = 4\nb = 5\n[execution]\ne = tru\nf = 6\n",
        );
        let lines: Vec<usize> = toml.syntax_errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [2, 4, 6, 7, 8], "{:?}", toml.syntax_errors);
        assert_eq!(toml.syntax_errors[2].quoted, "b = 5");
        assert!(toml.syntax_errors[2].reason.contains("duplicate key"));
        let read: Vec<_> = entries(&toml).iter().map(|entry| entry.1).collect();
        assert_eq!(read, ["b", "d", "f"]);

        let json = parse("a.json", "{\"a\": 1,\n\"t\": {\"b\": 2},\n\"c\": tru}");
        assert_eq!(json.syntax_errors.len(), 1);
        assert_eq!(json.syntax_errors[0].line, 3);
        assert_eq!(entries(&json).len(), 2, "the lines before it are read");
        assert_eq!(parse("a.json", "{} {}").syntax_errors.len(), 1);
        assert_eq!(parse("a.json", "[1]").syntax_errors.len(), 1);
        assert_eq!(parse("a.json", "").syntax_errors.len(), 1);
    }
}
