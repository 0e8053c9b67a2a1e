//! The layer of one file: checks its keys and values, and sets them over the layers below.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{Document, Entry, Format, RawValue, Table};
use super::error::{ConfigProblem, quote};
use super::layers::Layers;
use super::origin::Origin;
use super::profiles::Profile;
use super::schema;

/// The key, outside of all tables, that names a profile.
const PROFILE: &str = "profile";

/// Adds the settings of the file at `path` to `layers`. Problems come in the order of lines.
pub(super) fn add(layers: &mut Layers, path: &Path, document: &Document) -> Vec<ConfigProblem> {
    let mut reader = FileReader {
        layers,
        path,
        problems: Vec::new(),
        lines: BTreeMap::new(),
    };
    for error in &document.syntax_errors {
        reader.layers.mark_incomplete();
        let place = format!("{}:{}", path.display(), error.line);
        let subject = if error.quoted.is_empty() {
            place
        } else {
            format!("{place}: {}", error.quoted)
        };
        reader.problem(error.line, subject, error.reason.clone());
    }
    for table in &document.tables {
        reader.table(table);
    }
    for entry in &document.top_level {
        reader.top_level_entry(entry, document.format);
    }
    let mut problems = reader.problems;
    problems.sort_by_key(|(line, _)| *line);
    problems.into_iter().map(|(_, problem)| problem).collect()
}

/// Returns the profile that a file names, if there is such a profile.
pub(super) fn profile(document: &Document) -> Option<Profile> {
    let mut entries = document.top_level.iter();
    let last = entries.rfind(|entry| entry.key == PROFILE)?;
    parse_profile(&last.value)
}

fn parse_profile(value: &RawValue) -> Option<Profile> {
    match value {
        RawValue::Text(name) => Profile::from_name(name.to_str()?),
        _ => None,
    }
}

/// Reads one file into the layers.
struct FileReader<'r> {
    layers: &'r mut Layers,
    path: &'r Path,
    /// Problems with their lines.
    problems: Vec<(usize, ConfigProblem)>,
    /// The line of each table and key so far.
    lines: BTreeMap<String, usize>,
}

impl FileReader<'_> {
    fn problem(&mut self, line: usize, subject: String, explanation: String) {
        self.problems
            .push((line, ConfigProblem::new(subject, explanation)));
    }

    fn assignment(&self, name: &str, entry: &Entry) -> String {
        let path = self.path.display();
        format!("{path}:{}: {name} = {}", entry.line, entry.quoted)
    }

    /// Returns whether this is the first occurrence of `name`; otherwise reports a duplicate.
    fn is_first(&mut self, name: &str, line: usize, subject: &str) -> bool {
        match self.lines.get(name) {
            None => {
                self.lines.insert(name.to_owned(), line);
                true
            }
            Some(first) => {
                let explanation = format!("duplicate key, first on line {first}; remove one");
                self.problem(line, subject.to_owned(), explanation);
                false
            }
        }
    }

    fn table(&mut self, table: &Table) {
        let path = self.path.display();
        let subject = format!("{path}:{}: [{}]", table.line, quote(&table.name));
        if !schema::SECTIONS.contains(&table.name.as_str()) {
            let explanation = schema::explain_unknown_section(&table.name);
            self.problem(table.line, subject, explanation);
            return;
        }
        // The keys of a duplicate table are checked all the same.
        self.is_first(&table.name, table.line, &subject);
        for entry in &table.entries {
            let name = format!("{}.{}", table.name, quote(&entry.key));
            self.entry(&table.name, &name, entry);
        }
    }

    fn top_level_entry(&mut self, entry: &Entry, format: Format) {
        let name = quote(&entry.key);
        let subject = self.assignment(&name, entry);
        let is_flat = format == Format::Json;
        if entry.key == PROFILE {
            let is_first = self.is_first(PROFILE, entry.line, &subject);
            if is_first && parse_profile(&entry.value).is_none() {
                // The intended profile could set anything.
                self.layers.mark_incomplete();
                self.problem(entry.line, subject, Profile::expected());
            }
        } else if schema::SECTIONS.contains(&entry.key.as_str()) {
            let found = entry.value.describe();
            self.problem(entry.line, subject, format!("must be a table, not {found}"));
        } else if is_flat && schema::find(schema::FLAT_SECTION, &entry.key).is_some() {
            self.entry(schema::FLAT_SECTION, &name, entry);
        } else {
            let explanation = schema::explain_unknown_key(&entry.key);
            self.problem(entry.line, subject, explanation);
        }
    }

    /// Reads a key of `section`. Problems call it `name`, as the file does.
    fn entry(&mut self, section: &str, name: &str, entry: &Entry) {
        let assignment = self.assignment(name, entry);
        let Some((definition, is_alias)) = schema::find(section, &entry.key) else {
            let explanation = schema::explain_unknown_key(&entry.key);
            self.problem(entry.line, assignment, explanation);
            return;
        };
        let written = format!("{section}.{}", entry.key);
        if !self.is_first(&written, entry.line, &assignment) {
            return;
        }
        match definition.value_type.accept(&entry.value) {
            // Within one file the setting's own name overrides its alias.
            Ok(_) if is_alias && self.lines.contains_key(definition.name) => {}
            Ok(value) => {
                let origin = Origin::File {
                    path: self.path.to_owned(),
                    line: entry.line,
                };
                self.layers.set(definition.name, value, origin, assignment);
            }
            Err(_) if definition.value_type.is_unset_by(&entry.value) => {}
            Err(expected) => {
                self.layers.mark_invalid(definition.name);
                self.problem(entry.line, assignment, format!("must be {expected}"));
            }
        }
    }
}
