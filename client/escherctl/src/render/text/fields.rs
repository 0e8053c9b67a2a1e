//! Names and values, one pair per line.

use std::fmt::Write;

use crate::render::escape;

#[derive(Default)]
pub(super) struct Fields {
    lines: Vec<(&'static str, String)>,
}

impl Fields {
    pub(super) fn add(&mut self, name: &'static str, value: impl ToString) {
        self.add_escaped(name, &escape::text(&value.to_string()));
    }

    pub(super) fn add_some(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Adds a value that is escaped already.
    pub(super) fn add_escaped(&mut self, name: &'static str, value: &str) {
        self.lines.push((name, value.to_owned()));
    }

    /// Returns the lines, with the values aligned.
    pub(super) fn finish(self) -> String {
        let width = self
            .lines
            .iter()
            .map(|line| line.0.len())
            .max()
            .unwrap_or(0)
            + 1;
        let mut shown = String::new();
        for (name, value) in self.lines {
            // Writing to a String does not fail.
            let _ = writeln!(shown, "{:width$} {value}", format!("{name}:"));
        }
        shown
    }
}
