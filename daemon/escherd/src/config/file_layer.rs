//! What a file says about settings, laid over what was there.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{Document, Entry, Format, Table, Typed};
use super::error::{Fault, shown};
use super::layers::Layers;
use super::origin::Origin;
use super::profiles::Profile;
use super::schema;

/// The key that names a profile, outside of all tables.
const PROFILE: &str = "profile";

/// Lays what the file at `path` says over `layers`. What is wrong comes in the order of lines.
pub(super) fn add(layers: &mut Layers, path: &Path, document: &Document) -> Vec<Fault> {
    let mut reading = Reading {
        layers,
        path,
        faults: Vec::new(),
        lines: BTreeMap::new(),
    };
    for garbled in &document.garbled {
        reading.layers.note_gap();
        let place = format!("{}:{}", path.display(), garbled.line);
        let said = if garbled.shown.is_empty() {
            place
        } else {
            format!("{place}: {}", garbled.shown)
        };
        reading.fault(garbled.line, said, garbled.reason.clone());
    }
    for table in &document.tables {
        reading.table(table);
    }
    for entry in &document.top {
        reading.top(entry, document.format);
    }
    let mut faults = reading.faults;
    faults.sort_by_key(|(line, _)| *line);
    faults.into_iter().map(|(_, fault)| fault).collect()
}

/// The profile that a file names, if there is one of that name.
pub(super) fn profile(document: &Document) -> Option<Profile> {
    let mut named = document.top.iter().filter(|entry| entry.key == PROFILE);
    named.next_back().and_then(|entry| profile_of(&entry.value))
}

fn profile_of(value: &Typed) -> Option<Profile> {
    match value {
        Typed::Text(name) => Profile::named(name.to_str()?),
        _ => None,
    }
}

/// One file on its way into the layers.
struct Reading<'r> {
    layers: &'r mut Layers,
    path: &'r Path,
    faults: Vec<(usize, Fault)>,
    /// The names that have been seen, and where.
    lines: BTreeMap<String, usize>,
}

impl Reading<'_> {
    fn fault(&mut self, line: usize, said: String, right: String) {
        self.faults.push((line, Fault::new(said, right)));
    }

    fn said(&self, name: &str, entry: &Entry) -> String {
        let path = self.path.display();
        format!("{path}:{}: {name} = {}", entry.line, entry.shown)
    }

    /// Whether `name` is there for the first time.
    fn is_new(&mut self, name: &str, line: usize, said: &str) -> bool {
        match self.lines.get(name) {
            None => {
                self.lines.insert(name.to_owned(), line);
                true
            }
            Some(first) => {
                let right = format!("duplicate key, on line {first} already; keep one of the two");
                self.fault(line, said.to_owned(), right);
                false
            }
        }
    }

    fn table(&mut self, table: &Table) {
        let said = format!(
            "{}:{}: [{}]",
            self.path.display(),
            table.line,
            shown(&table.name)
        );
        if !schema::SECTIONS.contains(&table.name.as_str()) {
            self.fault(table.line, said, schema::suggested_section(&table.name));
            return;
        }
        // One that is there twice is a fault; what stands in it is judged all the same.
        self.is_new(&table.name, table.line, &said);
        for entry in &table.entries {
            let name = format!("{}.{}", table.name, shown(&entry.key));
            self.entry(&table.name, &name, entry);
        }
    }

    fn top(&mut self, entry: &Entry, format: Format) {
        let name = shown(&entry.key);
        let said = self.said(&name, entry);
        if entry.key == PROFILE {
            let is_new = self.is_new(PROFILE, entry.line, &said);
            if is_new && profile_of(&entry.value).is_none() {
                // Any value may be another one than is meant.
                self.layers.note_gap();
                self.fault(entry.line, said, Profile::wanted());
            }
        } else if schema::SECTIONS.contains(&entry.key.as_str()) {
            let found = entry.value.describe();
            self.fault(entry.line, said, format!("must be a table, not {found}"));
        } else if format == Format::Json && schema::find(schema::FLAT_SECTION, &entry.key).is_some()
        {
            self.entry(schema::FLAT_SECTION, &name, entry);
        } else {
            self.fault(entry.line, said, schema::suggestion(&entry.key));
        }
    }

    /// A key of `section` that is called `name` in this file.
    fn entry(&mut self, section: &str, name: &str, entry: &Entry) {
        let said = self.said(name, entry);
        let Some((key, is_other_spelling)) = schema::find(section, &entry.key) else {
            self.fault(entry.line, said, schema::suggestion(&entry.key));
            return;
        };
        if !self.is_new(&format!("{section}.{}", entry.key), entry.line, &said) {
            return;
        }
        match key.kind.judge(&entry.value) {
            // In one file the setting's own name goes over its other spelling.
            Some(_) if is_other_spelling && self.lines.contains_key(key.name) => {}
            Some(value) => {
                let origin = Origin::File {
                    path: self.path.to_owned(),
                    line: entry.line,
                };
                self.layers.hold(key.name, value, origin, said);
            }
            None if key.kind.is_absent(&entry.value) => {}
            None => {
                self.layers.spoil(key.name);
                let mut right = format!("must be {}", key.kind.wanted());
                if !key.kind.is_written_as(&entry.value) {
                    let quotes = if key.kind.is_quoted() {
                        " in quotes"
                    } else {
                        ""
                    };
                    right = format!("{right}{quotes}, not {}", entry.value.describe());
                }
                self.fault(entry.line, said, right);
            }
        }
    }
}
